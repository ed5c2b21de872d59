"""`make soak`: pods come, move and go while everything is killed at random, and nothing may go wrong."""
