"""Which layers of a decoder several processes can share."""
