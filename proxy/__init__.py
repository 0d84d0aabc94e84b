"""The data plane: the way of one connection from accept to the last byte. Never imports kms or control."""
