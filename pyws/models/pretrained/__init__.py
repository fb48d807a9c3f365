"""Networks with published weights, by name: where the weights lie, and what they say of themselves."""
