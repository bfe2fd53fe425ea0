"""What is taken where nobody says; each is shown in the answer and can be changed."""

from __future__ import annotations

RESERVE_BYTES = 1.5e9
"""What a serving framework keeps per device besides the model: context, graphs, workspaces."""

PREFILL_CHUNK = 2048
"""Tokens per prefill chunk (Agrawal et al., "Sarathi-Serve", 2024, section 5)."""

PAGE_SIZE = 16
"""Tokens per KV page (Kwon et al., "PagedAttention", 2023, section 7.2)."""

DEPTHS = (1, 2, 4)
"""Pipeline depths that a plan tries."""

MOST_DEVICES = 256
"""Devices that a plan may have in all."""
