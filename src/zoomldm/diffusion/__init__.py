"""The mathematics of diffusion as pure functions: schedules, losses, guidance, samplers and keyed noise."""
