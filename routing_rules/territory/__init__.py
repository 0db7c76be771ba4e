"""The official places of each vintage as compact datasets; SOURCE.md says what they are derived from."""
