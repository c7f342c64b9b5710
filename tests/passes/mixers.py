"""Token mixers that carry a state from token to token, and decoders made of them."""

import functools

import torch
from torch import nn
from torch.nn import functional

from tests.passes.test_lift_cache import WIDTH, WORDS, Attention

CHUNK, HEADS, GROUPS, STATE = 16, 4, 2, 3


class ShortConv(nn.Module):
    def __init__(self, pad_left=False):
        super().__init__()
        self.pad_left = pad_left
        self.into, self.out = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.conv = nn.Conv1d(WIDTH, WIDTH, 3, groups=WIDTH, padding=0 if pad_left else 2)

    def forward(self, x):
        gate, y = self.into(x).transpose(1, 2).chunk(2, dim=1)
        y = self.conv(functional.pad(y, (2, 0)) if self.pad_left else y)[..., : x.shape[1]]
        return self.out((gate * y).transpose(1, 2))


class StateSpace(nn.Module):
    """Mamba 2 in chunks, the way a forward without kernels writes it."""

    def __init__(self, local=False):
        super().__init__()
        self.local = local
        self.sizes = [WIDTH, GROUPS * STATE, GROUPS * STATE]
        self.into = nn.Linear(WIDTH, sum(self.sizes) + HEADS)
        self.conv = nn.Conv1d(
            sum(self.sizes), sum(self.sizes), 4, groups=sum(self.sizes), padding=3
        )
        self.A_log, self.D = nn.Parameter(torch.rand(HEADS)), nn.Parameter(torch.rand(HEADS))
        self.dt_bias = nn.Parameter(torch.rand(HEADS))
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, u):
        batch, length, _ = u.shape
        mixed, dt = self.into(u).split([sum(self.sizes), HEADS], dim=-1)
        mixed = functional.silu(self.conv(mixed.transpose(1, 2))[..., :length]).transpose(1, 2)
        x, b, c = mixed.split(self.sizes, dim=-1)
        x = x.reshape(batch, length, HEADS, -1)
        b, c = (
            t.reshape(batch, length, GROUPS, STATE).repeat_interleave(HEADS // GROUPS, dim=2)
            for t in (b, c)
        )
        dt = functional.softplus(dt + self.dt_bias).clamp(0.01, 5.0)
        pad = (CHUNK - length % CHUNK) % CHUNK
        decay = functional.pad(-self.A_log.exp() * dt, (0, 0, 0, pad))
        decay, value, b, c = (
            t.reshape(batch, -1, CHUNK, *t.shape[2:])
            for t in (
                decay,
                functional.pad(x * dt[..., None], (0, 0, 0, 0, 0, pad)),
                functional.pad(b, (0, 0, 0, 0, 0, pad)),
                functional.pad(c, (0, 0, 0, 0, 0, pad)),
            )
        )
        total = decay.cumsum(dim=2)
        gap = total[:, :, :, None] - total[:, :, None]
        causal = torch.ones(CHUNK, CHUNK, dtype=torch.bool).tril()[..., None]
        weight = (
            torch.einsum("kqihn,kqjhn->kqijh", c, b) * gap.masked_fill(~causal, -torch.inf).exp()
        )
        y = torch.einsum("kqijh,kqjhp->kqihp", weight, value)
        if self.local:  # each chunk starts anew
            y = y.reshape(batch, -1, *x.shape[2:])
        else:
            left = (total[:, :, -1:] - total).exp()
            added = torch.einsum("kqjhn,kqjh,kqjhp->kqhpn", b, left, value)
            state, chunks = torch.zeros_like(added[:, 0]), []
            for i in range(added.shape[1]):
                seen = torch.einsum("kjhn,kjh,khpn->kjhp", c[:, i], total[:, i].exp(), state)
                chunks.append(y[:, i] + seen)
                state = state * total[:, i, -1, :, None, None].exp() + added[:, i]
            y = torch.cat(chunks, dim=1)
        y = y[:, :length] + self.D[:, None] * x
        return self.out(y.reshape(batch, length, -1))


class Selective(nn.Module):
    """Mamba, token by token: the export unrolls the loop."""

    def __init__(self):
        super().__init__()
        self.into, self.rank = nn.Linear(WIDTH, 2 * STATE + 2), nn.Linear(2, WIDTH)
        self.A_log, self.D = nn.Parameter(torch.rand(WIDTH, STATE)), nn.Parameter(torch.rand(WIDTH))

    def forward(self, x):
        step, b, c = self.into(x).split([2, STATE, STATE], dim=-1)
        step = self.rank.weight @ step.transpose(1, 2) + self.rank.bias[:, None]
        step, x = functional.softplus(step), x.transpose(1, 2)
        decay = (-self.A_log.exp()[:, None] * step[..., None]).exp()
        added = (step * x)[..., None] * b[:, None]
        state, outputs = torch.zeros_like(decay[:, :, 0]), []
        for i in range(x.shape[2]):
            state = decay[:, :, i] * state + added[:, :, i]
            outputs.append((state @ c[:, i, :, None])[..., 0])
        return (torch.stack(outputs, dim=-1) + self.D[:, None] * x).transpose(1, 2)


class Gated(nn.Module):
    """A gated linear recurrence of each feature, token by token."""

    def __init__(self, double=False):
        super().__init__()
        self.double, self.gate, self.value = (
            double,
            nn.Linear(WIDTH, WIDTH),
            nn.Linear(WIDTH, WIDTH),
        )

    def forward(self, x):
        decay, value = torch.sigmoid(self.gate(x)), self.value(x)
        states = torch.zeros_like(x)
        state = torch.zeros_like(x[:, 0])
        for i in range(x.shape[1]):
            state = decay[:, i] * state + value[:, i]
            if self.double:
                state = torch.tanh(state)
            states[:, i] = state
        return states


class Delta(nn.Module):
    """A gated delta net, token by token."""

    def __init__(self):
        super().__init__()
        self.qkv, self.gates = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, 2 * HEADS)
        self.A_log, self.dt_bias = nn.Parameter(torch.rand(HEADS)), nn.Parameter(torch.rand(HEADS))

    def forward(self, x):
        batch, length, _ = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, HEADS, -1).unbind(2)
        a, b = self.gates(x).chunk(2, dim=-1)
        decay = (-self.A_log.exp() * functional.softplus(a + self.dt_bias)).exp()
        beta = torch.sigmoid(b)
        q, k = (t * torch.rsqrt((t * t).sum(dim=-1, keepdim=True) + 1e-6) for t in (q, k))
        q = q * q.shape[-1] ** -0.5
        state, outputs = x.new_zeros(batch, HEADS, q.shape[-1], v.shape[-1]), []
        for i in range(length):
            state = state * decay[:, i, :, None, None]
            known = (state * k[:, i, ..., None]).sum(dim=-2)
            change = (v[:, i] - known) * beta[:, i, :, None]
            state = state + k[:, i, ..., None] * change[..., None, :]
            outputs.append((state * q[:, i, ..., None]).sum(dim=-2))
        return torch.stack(outputs, dim=1).reshape(batch, length, -1)


class KeyDelta(nn.Module):
    """A delta net whose decay is one of each feature of its keys, in a chunk (Kimi delta attention)."""

    def __init__(self, by_feature=True):
        super().__init__()
        self.qkv, self.beta = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, HEADS)
        self.by_feature, self.gate = by_feature, nn.Linear(WIDTH, WIDTH if by_feature else HEADS)

    def forward(self, x):
        batch, length, _ = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        g = -functional.softplus(self.gate(x)).view(batch, length, HEADS, -1).transpose(1, 2)
        q, k = (
            functional.normalize(q, dim=-1) * q.shape[-1] ** -0.5,
            functional.normalize(k, dim=-1),
        )
        beta = torch.sigmoid(self.beta(x)).transpose(1, 2)
        pad = (CHUNK - length % CHUNK) % CHUNK
        q, k, v, g, beta = (
            functional.pad(t, (0, 0, 0, pad)) for t in (q, k, v, g, beta[..., None])
        )
        q, k, v, g, beta = (
            t.reshape(batch, HEADS, -1, CHUNK, t.shape[-1]) for t in (q, k, v, g, beta)
        )
        total, known = g.cumsum(dim=-2), k * beta
        ahead = torch.ones(CHUNK, CHUNK, dtype=torch.bool).triu(1)[..., None]
        gap = (total[..., None, :] - total[..., None, :, :]).masked_fill(ahead, -torch.inf).exp()
        weigh = -(known[..., None, :] * k[..., None, :, :] * gap).sum(-1).tril(-1)
        rows = [weigh[..., 0, :]]
        for i in range(1, CHUNK):  # what each token finds known already
            rows.append(
                weigh[..., i, :] + weigh[..., i, None, :i].matmul(torch.stack(rows, -2)).squeeze(-2)
            )
        solved = torch.stack(rows, -2) + torch.eye(CHUNK)
        value, old = solved @ (v * beta), solved @ (known * total.exp())
        state, chunks = x.new_zeros(batch, HEADS, q.shape[-1], v.shape[-1]), []
        for i in range(value.shape[2]):
            inside = (q[:, :, i, :, None] * k[:, :, i, None] * gap[:, :, i]).sum(-1).tril()
            new = value[:, :, i] - old[:, :, i] @ state
            chunks.append((q[:, :, i] * total[:, :, i].exp()) @ state + inside @ new)
            left = k[:, :, i] * (total[:, :, i, -1:] - total[:, :, i]).exp()
            last = total[:, :, i, -1].exp()[..., None]
            state = state * last + left.transpose(-1, -2) @ new
        y = torch.cat(chunks, dim=2)[:, :, :length]
        return y.transpose(1, 2).reshape(batch, length, -1)


class Lightning(nn.Module):
    """Linear attention that decays with distance, by a table of powers for a chunk."""

    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        rate, place = torch.linspace(0.1, 1.0, HEADS)[:, None, None], torch.arange(CHUNK)
        self.register_buffer("before", (-rate * (place[:, None] + 1)).exp())
        self.register_buffer("table", (-rate * (place[:, None] - place)).exp().tril()[None])
        self.register_buffer("after", (-rate * (CHUNK - 1 - place[:, None])).exp())

    def forward(self, x):
        batch, length, _ = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        state, chunks = x.new_zeros(batch, HEADS, q.shape[-1], v.shape[-1]), []
        for start in range(0, length, CHUNK):
            a, b, c = (t[:, :, start : start + CHUNK] for t in (q, k, v))
            size = min(CHUNK, length - start)
            inside = (a @ b.transpose(-1, -2) * self.table[:, :, :size, :size]) @ c
            chunks.append(inside + (a * self.before[:, :size]) @ state)
            left = (b * self.after[:, -size:]).transpose(-1, -2) @ c
            state = state * self.before[:, size - 1, :, None] + left
        return self.out(torch.cat(chunks, dim=2).transpose(1, 2).reshape(batch, length, -1))


class MatrixLstm(nn.Module):
    """mLSTM (xLSTM), token by token."""

    def __init__(self):
        super().__init__()
        self.qkv, self.gates = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, 2 * HEADS)

    def forward(self, x):
        batch, length, _ = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, HEADS, -1).unbind(2)
        i, f = self.gates(x).chunk(2, dim=-1)
        f = functional.logsigmoid(f)
        matrix = x.new_zeros(batch, HEADS, q.shape[-1], v.shape[-1])
        total, top, outputs = matrix[..., 0], matrix[..., 0, 0], []
        for t in range(length):
            high = torch.maximum(f[:, t] + top, i[:, t])
            old, new = (f[:, t] + top - high).exp()[..., None], (i[:, t] - high).exp()[..., None]
            matrix = old[..., None] * matrix + (new * k[:, t])[..., None] * v[:, t, :, None]
            total, top = old * total + new * k[:, t], high
            query = q[:, t] * q.shape[-1] ** -0.5
            weight = (query * total).sum(-1, keepdim=True).abs().maximum((-top).exp()[..., None])
            outputs.append((query[..., None, :] @ matrix).squeeze(-2) / (weight + 1e-5))
        return torch.stack(outputs, dim=1).reshape(batch, length, -1)


class Rwkv(nn.Module):
    """RWKV 4: keys of this token and the one before, and a mean of values that forgets."""

    def __init__(self):
        super().__init__()
        self.shift, self.mix = nn.ZeroPad2d((0, 0, 1, -1)), nn.Parameter(torch.rand(WIDTH))
        self.key, self.value = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.decay, self.first = nn.Parameter(torch.rand(WIDTH)), nn.Parameter(torch.rand(WIDTH))

    def forward(self, x):
        x = x * self.mix + self.shift(x) * (1 - self.mix)
        key, value, rate = self.key(x), self.value(x), -self.decay.exp()
        above, below = torch.zeros_like(x[:, 0]), torch.zeros_like(x[:, 0])
        top, outputs = torch.zeros_like(x[:, 0]) - 1e38, []
        for i in range(x.shape[1]):
            k, v = key[:, i], value[:, i]
            high = torch.maximum(top, k + self.first)
            old, new = (top - high).exp(), (k + self.first - high).exp()
            outputs.append((old * above + new * v) / (old * below + new))
            high = torch.maximum(top + rate, k)
            old, new = (top + rate - high).exp(), (k - high).exp()
            above, below, top = old * above + new * v, old * below + new, high
        return torch.stack(outputs, dim=1)


class Both(nn.Module):
    def __init__(self):
        super().__init__()
        self.space, self.attention = StateSpace(), Attention(True, None, True, None, None)

    def forward(self, x):
        return self.space(x) + self.attention(x)


class ConvRow(nn.Module):
    """Two convolutions of which the second mixes channels, padded once; and the value of the token before."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv1d(WIDTH, WIDTH, 2, groups=WIDTH)
        self.second = nn.Conv1d(WIDTH, WIDTH, 3, groups=4)
        self.value = nn.Linear(WIDTH, WIDTH, bias=False)

    def forward(self, x):
        y = self.second(self.first(functional.pad(x.transpose(1, 2), (3, 0)))).transpose(1, 2)
        start = self.value(x.new_zeros(x.shape[0], 1, WIDTH))
        return y * torch.cat([start, self.value(x)[:, :-1]], dim=1)


class Twice(nn.Module):
    """Two modules of one class that each keep their tokens."""

    def __init__(self):
        super().__init__()
        self.first, self.second = ShortConv(), ShortConv()

    def forward(self, x):
        return self.second(functional.silu(self.first(x)))


MIXERS = {
    "conv row": ConvRow,
    "twice": Twice,
    "conv": ShortConv,
    "padded conv": functools.partial(ShortConv, True),
    "space": StateSpace,
    "local space": functools.partial(StateSpace, True),
    "selective": Selective,
    "delta": Delta,
    "key delta": KeyDelta,
    "head delta": functools.partial(KeyDelta, False),
    "lightning": Lightning,
    "matrix lstm": MatrixLstm,
    "rwkv": Rwkv,
    "gated": Gated,
    "nonlinear": functools.partial(Gated, True),
    "attention": functools.partial(Attention, True, None, True, None, None),
    "both": Both,
}


class Layer(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.norm, self.mixer, self.mlp = (
            nn.LayerNorm(WIDTH),
            MIXERS[kind](),
            nn.Linear(WIDTH, WIDTH),
        )

    def forward(self, x):
        x = x + self.mixer(self.norm(x))
        return x + functional.silu(self.mlp(x))


class Decoder(nn.Module):
    def __init__(self, kinds):
        super().__init__()
        self.embed = nn.Embedding(WORDS, WIDTH)
        self.layers = nn.ModuleList(map(Layer, kinds))
        self.head = nn.Linear(WIDTH, WORDS)

    def forward(self, ids):
        x = self.embed(ids)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)
