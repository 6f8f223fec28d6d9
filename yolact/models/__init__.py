"""The network: backbones, pyramid, protonet, prediction head and priors, and the checkpoints that fill them."""
