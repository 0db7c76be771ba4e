"""Rules as data: what procedures know, whom they reach, and the places they speak of."""
