"""What tests share: small models and runs, processes and terminals to drive them in."""
