// Package train holds the PyTorch side of the project, at any size of the
// architecture: the model, a trainer by masked cross-entropy, an evaluation on
// held-out scenes and a writer of random checkpoints for tests. README.md says
// how to use them. There is no Go here but the test that runs theirs.
package train
