"""Attackers, who try to find out from portraits whose they are, or what was to be hidden."""
