// SPDX-License-Identifier: GPL-2.0-only

/** The hash by which LuCI's pages look up a translation: Paul Hsieh's SuperFastHash over UTF-8, in hexadecimal. */
export function sfh(string) {
	const bytes = Buffer.from(string);
	let hash = bytes.length >>> 0;
	let at = 0;
	const two = () => bytes[at] | bytes[at + 1] << 8;
	const signed = byte => byte << 24 >> 24;

	if (!bytes.length)
		return null;

	for (; at + 4 <= bytes.length; at += 4) {
		hash = hash + two() >>> 0;
		hash = (hash << 16 ^ ((bytes[at + 2] | bytes[at + 3] << 8) << 11 ^ hash)) >>> 0;
		hash = hash + (hash >>> 11) >>> 0;
	}

	switch (bytes.length - at) {
	case 3:
		hash = hash + two() >>> 0;
		hash = (hash ^ hash << 16) >>> 0;
		hash = (hash ^ signed(bytes[at + 2]) << 18) >>> 0;
		hash = hash + (hash >>> 11) >>> 0;
		break;
	case 2:
		hash = hash + two() >>> 0;
		hash = (hash ^ hash << 11) >>> 0;
		hash = hash + (hash >>> 17) >>> 0;
		break;
	case 1:
		hash = hash + signed(bytes[at]) >>> 0;
		hash = (hash ^ hash << 10) >>> 0;
		hash = hash + (hash >>> 1) >>> 0;
		break;
	}

	hash = (hash ^ hash << 3) >>> 0;
	hash = hash + (hash >>> 5) >>> 0;
	hash = (hash ^ hash << 4) >>> 0;
	hash = hash + (hash >>> 17) >>> 0;
	hash = (hash ^ hash << 25) >>> 0;
	hash = hash + (hash >>> 6) >>> 0;

	return hash.toString(16).padStart(8, '0');
}
