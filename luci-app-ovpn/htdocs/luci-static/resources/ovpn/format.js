// SPDX-License-Identifier: GPL-2.0-only
'use strict';
'require baseclass';

/* Words and numbers, as people read them. */

const UNITS = [ [ 86400, '%dd' ], [ 3600, '%dh' ], [ 60, '%dm' ], [ 1, '%ds' ] ];

return baseclass.extend({
	/* Seconds in the two largest units: 1h 5m. */
	duration(seconds) {
		if (seconds == null)
			return '–';

		let rest = Math.max(0, Math.floor(seconds));
		const words = [];

		for (const [ size, word ] of UNITS) {
			if (rest >= size && words.length < 2)
				words.push(word.format(Math.floor(rest / size)));

			rest %= size;
		}

		return words.join(' ') || '0s';
	},

	ago(seconds) {
		return seconds == null ? _('never') : _('%s ago').format(this.duration(seconds));
	},

	bytes(count) {
		return count == null ? '–' : '%1024.1mB'.format(count);
	},

	/* Bytes per second, in bits as lines are sold. */
	rate(bytes) {
		return bytes == null ? '–' : '%1000.1mbit/s'.format(Math.round(bytes * 8));
	},

	/* A state of an interface or a peer with the class of its label. */
	state(word) {
		switch (word) {
		case 'up':         return [ _('up'), 'success' ];
		case 'down':       return [ _('down'), 'warning' ];
		case 'resolving':  return [ _('looking up its name'), 'notice' ];
		case 'connecting': return [ _('connecting'), 'notice' ];
		/* Set up in the kernel, which is all that a peer without a handshake is before its first packet. */
		case 'silent':     return [ _('not heard yet'), 'notice' ];
		case 'tls':        return [ _('TLS handshake'), 'notice' ];
		case 'authenticating': return [ _('signing in'), 'notice' ];
		case 'pushing':    return [ _('asking for its settings'), 'notice' ];
		case 'asking':     return [ _('waits for an answer'), 'warning' ];
		case 'stopped':    return [ _('stopped'), '' ];
		case 'waiting':    return [ _('waiting'), 'notice' ];
		case 'disabled':   return [ _('disabled'), '' ];
		case 'error':      return [ _('error'), 'error ovpn-bad' ];
		default:           return [ String(word), '' ];
		}
	},

	control(word) {
		switch (word) {
		case 'static':   return _('static key');
		case 'tls':      return _('OpenVPN’s protocol, by ovpnd');
		case 'observed': return _('made by OpenVPN');
		default:         return String(word);
		}
	},

	/* Why the driver dropped packets; the reasons' names are its own. */
	drop(reason) {
		switch (reason) {
		case 'rx_short':        return _('received: too short');
		case 'rx_data_v1':      return _('received: data packet of version 1');
		case 'rx_unknown_peer': return _('received: unknown peer');
		case 'rx_runt':         return _('received: incomplete data packet');
		case 'rx_no_key':       return _('received: no such key');
		case 'rx_replay':       return _('received: replayed or late');
		case 'rx_auth_failed':  return _('received: authentication failed');
		case 'rx_bad_protocol': return _('received: neither IPv4 nor IPv6');
		case 'rx_reverse_path': return _('received: source address is not the peer’s');
		case 'rx_no_memory':    return _('received: no memory');
		case 'rx_refused':      return _('received: refused by the network stack');
		case 'rx_gone':         return _('received: peer was just deleted');
		case 'rx_queue_full':   return _('received: queue of the crypto engine full');
		case 'rx_ecn':          return _('received: congestion mark of the path on a packet that may carry none');
		case 'tx_no_peer':      return _('sent: no peer for the destination');
		case 'tx_no_key':       return _('sent: no key');
		case 'tx_exhausted':    return _('sent: key used up');
		case 'tx_bad_protocol': return _('sent: neither IPv4 nor IPv6');
		case 'tx_no_route':     return _('sent: no route to the peer');
		case 'tx_too_big':      return _('sent: too big for the path');
		case 'tx_no_memory':    return _('sent: no memory');
		case 'tx_crypto':       return _('sent: cipher failed');
		case 'tx_no_transport': return _('sent: socket is gone');
		case 'tx_queue_full':   return _('sent: queue full');
		default:                return String(reason);
		}
	},

	severity(word) {
		switch (word) {
		case 'error':   return [ _('Error'), 'error' ];
		case 'warning': return [ _('Warning'), 'warning' ];
		default:        return [ _('Note'), 'notice' ];
		}
	}
});
