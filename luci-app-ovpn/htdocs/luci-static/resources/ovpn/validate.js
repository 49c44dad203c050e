// SPDX-License-Identifier: GPL-2.0-only
'use strict';
'require baseclass';
'require validation';

/* Validators of the options that ovpnd reads: true, or what is wrong in one sentence. An empty value is fine here;
   options that must be there say so by rmempty. The limits are ovpnd's. */

const MAX_PEER_ID = 0xffffff;
const MAX_KEEPALIVE = 86400;

function isV4(text) {
	return validation.parseIPv4(text) != null;
}

function isV6(text) {
	return validation.parseIPv6(text) != null;
}

/* A number of plain digits within limits; NaN otherwise. */
function digits(text, low, high) {
	const number = /^[0-9]{1,10}$/.test(text) ? +text : NaN;

	return number >= low && number <= high ? number : NaN;
}

/* The 32 bits of an IPv4 address as a number; NaN otherwise. */
function number(text) {
	return isV4(text) ? validation.parseIPv4(text).reduce((all, byte) => all * 256 + byte, 0) : NaN;
}

/* The mask of a length, as an address. */
function mask(length) {
	return [ 24, 16, 8, 0 ].map(shift => Math.floor((2 ** 32 - 2 ** (32 - length)) / 2 ** shift) % 256).join('.');
}

return baseclass.extend({
	/* 10.8.0.0 and 255.255.255.0 as 10.8.0.0/24; null when they are no network. */
	withLength(network, netmask) {
		const length = [ ...Array(33).keys() ].find(bits => mask(bits) == netmask);

		return isV4(network ?? '') && length != null ? '%s/%d'.format(network, length) : null;
	},

	/* 10.8.0.0/24 as 10.8.0.0 255.255.255.0 */
	withMask(value) {
		const [ network, length ] = value.split('/');

		return '%s %s'.format(network, mask(length == null ? 32 : +length));
	},

	/* A network: an address whose bits beyond the length are 0. */
	network(value) {
		const [ address, length ] = (value ?? '').split('/');

		if (!value)
			return true;

		if (this.prefix(value) !== true || length == null)
			return _('This must be a network and its length, for instance 192.168.1.0/24.');

		if (isV4(address) && number(address) % 2 ** (32 - length))
			return _('%s is no network of that length.').format(address);

		return true;
	},

	/* The network that a server gives addresses from; OpenVPN's form with a mask, too. */
	pool(value) {
		const [ network, netmask ] = (value ?? '').trim().split(/\s+/);
		const short = netmask == null ? value : this.withLength(network, netmask);
		const length = +(short ?? '').split('/')[1];

		if (!value)
			return true;

		if (short == null || short.includes(':') || this.network(short) !== true || length < 8 || length > 29)
			return _('This must be an IPv4 network of 8 to 29 bits, for instance 10.8.0.0/24.');

		return true;
	},

	pool6(value) {
		const [ network, length ] = (value ?? '').split('/');

		return !value || isV6(network) && digits(length ?? '', 64, 112) ? true
			: _('This must be an IPv6 network of 64 to 112 bits, for instance fd00:8::/64.');
	},

	/* An address with or without a prefix length. */
	prefix(value) {
		if (!value)
			return true;

		const [ address, length, more ] = value.split('/');
		const bits = isV4(address) ? 32 : isV6(address) ? 128 : null;

		if (bits == null || more != null || (length != null && isNaN(digits(length, 0, bits))))
			return _('This must be an address, with its prefix length after a slash.');

		return true;
	},

	address(value) {
		return !value || isV4(value) || isV6(value) ? true : _('This must be an IP address.');
	},

	/* A peer's address in the tunnel: `all` are those of the peer, `taken` are [address, peer] of the others. */
	vpnIp(value, all, taken, mode) {
		const other = taken.find(([ ip ]) => value && ip == value);

		if (this.address(value) !== true)
			return this.address(value);

		if (other)
			return _('Peer %s has this address.').format(other[1]);

		if (mode != 'mp')
			return true;

		if (!value && !all.length)
			return _('With many peers each is found by its address: enter one.');

		if (value && all.some(ip => ip != value && isV6(ip) == isV6(value)))
			return _('With many peers each has one IPv4 and one IPv6 address at most.');

		return true;
	},

	/* The addresses of an interface: each once. */
	addresses(value, all) {
		const bare = (address) => address.split('/')[0];

		if (value && all.some(other => other != value && bare(other) == bare(value)))
			return _('This address is there twice.');

		/* Without one it would be alone on its network, which is seldom meant. */
		if (isV4(value) || isV6(value))
			return _('Which network? Add its prefix length: %s, or %s for this address alone.')
				.format(...isV4(value) ? [ '/24', '/32' ] : [ '/64', '/128' ]);

		return this.prefix(value);
	},

	/* The port an interface waits on; `taken` are the interfaces of the same protocol. */
	localPort(value, transport, taken) {
		const other = value && taken.find(net => net.local_port == value && (net.transport || 'udp') == (transport || 'udp'));

		return other ? _('Interface %s has this port.').format(other['.name']) : true;
	},

	/* A host name or an address, which has to go with the interface's transport. */
	host(value, transport) {
		if (!value)
			return true;

		const v6 = /6$/.test(transport || 'udp');

		if (isV4(value))
			return v6 ? _('The transport %s needs an IPv6 address.').format(transport) : true;

		if (isV6(value.replace(/%.*$/, '')))
			return v6 ? true : _('The transport %s needs an IPv4 address.').format(transport || 'udp');

		if (value.length > 253 || !/^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?\.?$/.test(value))
			return _('This must be a host name or an IP address.');

		return true;
	},

	peerId(value, taken) {
		if (!value)
			return true;

		if (isNaN(digits(value, 0, MAX_PEER_ID)))
			return _('This must be a number from 0 to %d.').format(MAX_PEER_ID);

		const other = taken.find(([ id ]) => +id == +value);

		return other ? _('Peer %s has this number.').format(other[1]) : true;
	},

	seconds(value) {
		if (value && isNaN(digits(value, 0, MAX_KEEPALIVE)))
			return _('This must be a number of seconds from 0 to %d.').format(MAX_KEEPALIVE);

		return true;
	},

	/* The timeout that goes with an interval; empty ones have ovpnd's defaults. */
	timeout(interval, timeout) {
		const valid = this.seconds(timeout);

		if (valid !== true)
			return valid;

		const given = { interval: +(interval || 10), timeout: +(timeout || 60) };

		if (given.timeout != 0 && given.timeout <= given.interval)
			return _('A peer must not be given up before its keepalive is due: the timeout has to be longer than the interval.');

		return true;
	},

	transport(value, mode) {
		if (mode == 'mp' && /^tcp/.test(value))
			return _('With static keys TCP takes one peer: choose the mode point to point.');

		return true;
	},

	mssfix(value) {
		if (!value || value == 'auto' || value == 'off' || !isNaN(digits(value, 536, 65495)))
			return true;

		return _('This must be auto, off, or a number of bytes from 536 to 65495.');
	},

	hwcrypto(value) {
		if (!value || /^[A-Za-z0-9_(),.-]{1,127}$/.test(value))
			return true;

		return _('This must be auto, off, on, or the name of a driver in /proc/crypto.');
	},

	mark(value) {
		if (!value || !isNaN(digits(value, 0, 0xffffffff)) || /^0x[0-9a-fA-F]{1,8}$/.test(value))
			return true;

		return _('This must be a number of 32 bits, decimal or as 0x1f.');
	},

	path(value) {
		if (!value || /^\/[^\s'"]+$/.test(value))
			return true;

		return _('This must be the path of a file, from /.');
	},

	/* A user of a server, as ovpnd takes the name. */
	user(value) {
		if (value && !/^[#\s]|[:\0-\x1f\x7f]|\s$/.test(value) && new Blob([ value ]).size <= 127)
			return true;

		return _('This must be a name without colons, of at most 127 bytes, that does not begin with #.');
	},

	/* The password of one. */
	password(value) {
		return value && !/[\0-\x1f\x7f]/.test(value) && new Blob([ value ]).size <= 127 ? true
			: _('This must be a password of at most 127 bytes.');
	},

	/* Seconds that a token holds. */
	token(value) {
		return !value || value == '0' || /^\d+$/.test(value) && +value >= 60 && +value <= 31536000 ? true
			: _('This must be 0, or a number of seconds from 60 to 31536000.');
	},

	/* A server: host [port [protocol]]; `all` are those of the interface, which have one protocol. */
	remote(value, all) {
		if (!value)
			return all.length ? true : _('A client needs a server.');

		const proto = (line) => line.trim().split(/\s+/)[2] || 'udp';
		const [ host, port, transport, more ] = value.trim().split(/\s+/);

		if (/^tcp/.test(transport ?? ''))
			return _('ovpnd speaks UDP with servers so far.');

		if (more != null || transport != null && ![ 'udp', 'udp4', 'udp6' ].includes(transport))
			return _('This must be a name or an address, a port, and udp or udp6.');

		if (port != null && isNaN(digits(port, 1, 65535)))
			return _('%s is no port: it must be a number from 1 to 65535.').format(port);

		if (all.some(other => /6$/.test(proto(other)) != /6$/.test(proto(value))))
			return _('All servers of an interface have one protocol.');

		return this.host(host, transport == 'udp6' ? 'udp6' : 'udp');
	},

	/* The name of a client's certificate. */
	client(value) {
		return /^[A-Za-z0-9_][A-Za-z0-9._@-]{0,63}$/.test(value) ? true
			: _('A client’s name has up to 64 letters, digits, dots, hyphens, underscores and @.');
	},

	/* A host name or an address of either family. */
	remoteHost(value) {
		return !value ? _('Clients need the name or address of this router.')
			: isV4(value) || isV6(value) ? true : this.host(value, 'udp');
	},

	fingerprint(value) {
		return !value || /^([0-9a-f]{2}:){31}[0-9a-f]{2}$/i.test(value) ? true
			: _('This must be 32 pairs of hexadecimal digits with colons between them.');
	},

	ciphers(value) {
		const known = /^\??(AES-(128|192|256)-GCM|CHACHA20-POLY1305|DEFAULT)$/i;
		const wrong = (value || '').split(':').find(name => name && !known.test(name) && !name.startsWith('?'));

		return wrong ? _('The kernel’s data path has no cipher %s.').format(wrong) : true;
	},

	renegotiation(value) {
		return !value || value == '0' || !isNaN(digits(value, 5, 0xffffffff)) ? true : _('This must be 0, or at least 5 seconds.');
	},

	/* The name of a section that becomes a peer's, or of an interface with `limit` 15. */
	section(value, limit) {
		if (/^[A-Za-z0-9_]+$/.test(value) && value.length <= (limit || 64))
			return true;

		return _('A name has up to %d letters, digits and underscores.').format(limit || 64);
	}
});
