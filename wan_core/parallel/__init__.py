"""One forward pass on several devices: each process has some of the tokens, and they meet in attention."""
