"""Damage to files."""


def flip(path, at=None):
    """Flip one bit, by default in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if at is None else at] ^= 4
    path.write_bytes(content)
