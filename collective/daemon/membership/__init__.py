"""Who votes and who is in: promotions, demotions, removals, and who sees them through."""
