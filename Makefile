# SPDX-License-Identifier: GPL-2.0-only
# Everything is done by the harness in toolchains/, which installs, fetches and builds what it needs.
# OVPN_CACHE names the directory for what is fetched and built (default: ~/.cache/kmod-ovpn).

LANE := cargo run --quiet --release --locked --package lane --

demo check test test-fast test-lanes bench packages:
	@$(LANE) $@

clean:
	cargo clean

.PHONY: demo check test test-fast test-lanes bench packages clean
