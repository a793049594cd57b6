"""Parts of the proofs about reward models, each a module that can be run by itself."""
