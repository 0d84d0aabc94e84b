"""What happens between two legs that are up: bytes pass, and a tap reads along."""
