"""The demo's own world: partners' servers to deliver to. The hub never imports it."""
