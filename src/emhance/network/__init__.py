"""The network, its weights, the devices it runs on."""
