"""What one GPU shows: the same losses under every attention, few compilations, speed, and the plan beside it."""
