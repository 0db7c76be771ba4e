"""The official places of each vintage as compact datasets, and the script that derives them."""
