"""Generated text: one response for a request, in whole or part by part."""
