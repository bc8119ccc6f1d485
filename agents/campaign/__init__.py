"""The campaign: run state as a fold over messages, and the next step."""
