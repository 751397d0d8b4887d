"""The commands of `quintet`, one module each. What a command needs is loaded only when it runs."""
