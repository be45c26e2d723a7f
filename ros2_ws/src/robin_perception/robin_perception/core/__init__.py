"""What every part takes: errors, configuration, frames and scenes, and what checks them."""
