"""What a request is, who may send it, and how its body or file is read within limits."""
