// SPDX-License-Identifier: GPL-2.0-only
// The router that the pages belong to, and a second one at the other end of its tunnels, both in one guest: namespaces 0
// and 1, 10.10.0.1 and 10.10.0.2. Each has an ovpnd of its own; the first one is on the bus.

const SOCKET = '/run/ubus.sock';
const OTHER = '/tmp/other';

function network(own, key, more) {
	const other = 3 - own;

	return `config interface 'lan'
	option proto 'static'

config interface 'vpn0'
	option proto 'openvpn_dco'
	option mode '${own == 1 ? 'mp' : 'p2p'}'
	option transport 'udp'
	option local_port '1194'
	list addresses '10.8.0.${own}/24'
	option cipher 'aes-256-gcm'

config openvpn_dco_vpn0 '${own == 1 ? 'alice' : 'router'}'
	option description '${own == 1 ? 'Alice, at home' : ''}'
	option peer_id '1'
	option endpoint_host '10.10.0.${other}'
	list vpn_ip '10.8.0.${other}'
	list allowed_ips '192.168.${other}.0/24'
	option key_file '${key}'
	option key_direction '${own - 1}'
	option insecure_static_key '1'
	option keepalive_interval '1'
	option keepalive_timeout '4'
${more}`;
}

export class Router {
	constructor(guest) {
		this.guest = guest;
		this.socket = SOCKET;
	}

	async start() {
		const { guest } = this;
		const key = await guest.ok([ 'ovpnctl', 'genkey' ]);

		await guest.write('/etc/ovpn/alice.key', key);
		await guest.write(`${OTHER}/router.key`, key);
		await guest.ok([ 'mkdir', '-p', '/etc/openvpn' ]);
		await guest.write('/etc/config/network', network(1, '/etc/ovpn/alice.key', ''), '0644');
		await guest.write(`${OTHER}/network`, network(2, `${OTHER}/router.key`, ''), '0644');
		await this.startBroker();
		await this.startDaemon();
		await guest.start([ 'ubusd', '--socket', `${OTHER}/ubus` ], 1);
		await this.startOther();
		await this.until('ovpnd on the bus', async () => (await this.call('status')).interfaces?.length == 1);
		await this.reaches('10.8.0.2');
	}

	startBroker() {
		return this.guest.start([ 'ubusd', '--socket', SOCKET ]);
	}

	startDaemon() {
		return this.guest.start([ 'ovpnd', '--config-dir', '/etc/config', '--ubus-socket', SOCKET ]);
	}

	startOther() {
		return this.guest.start([ 'ovpnd', '--config-dir', OTHER, '--key-dir', OTHER, '--ubus-socket', `${OTHER}/ubus` ], 1);
	}

	/** Writes /etc/config/network and has ovpnd read it; resolves to what it said. */
	async configure(text) {
		await this.guest.write('/etc/config/network', text, '0644');

		return this.call('reload');
	}

	async call(method, args = {}) {
		return (await this.guest.ubus('ovpnd', method, args, SOCKET)).data ?? {};
	}

	/** Waits for a condition, 30 s at most. */
	async until(what, test) {
		const deadline = Date.now() + 30000;
		let last = null;

		for (;;) {
			try {
				const found = await test();

				if (found)
					return found;
			}
			catch (error) {
				last = error;
			}

			if (Date.now() > deadline)
				throw new Error(`waited in vain for ${what}${last ? `: ${last.message}` : ''}`);

			await new Promise(resolve => setTimeout(resolve, 100));
		}
	}

	reaches(address, ns = 0) {
		return this.until(`an answer of ${address}`, async () => (await this.guest.run([ 'ping', '-n', '-q', '-c', '1', '-W', '1', address ], { ns })).code === 0);
	}

	/** The peers of vpn0 as the kernel has them, by number. */
	async kernel() {
		const shown = JSON.parse(await this.guest.ok([ 'ovpnctl', 'show', 'vpn0', '--json' ]));

		return new Map((shown.interfaces[0]?.peers ?? []).map(peer => [ peer.peer_id, peer ]));
	}

	async peer(name) {
		return (await this.call('peers', { interface: 'vpn0', peer: name })).peers?.[0];
	}

	/** Has the other router take these files: path below its directory, and text. */
	async other(files) {
		for (const [ name, text ] of Object.entries(files))
			await this.guest.write(`${OTHER}/${name}`, text);

		const { data } = await this.guest.ubus('ovpnd', 'reload', {}, `${OTHER}/ubus`);

		if (!data?.ok)
			throw new Error(`the other router: ${JSON.stringify(data)}`);
	}

	otherFile(name) {
		return this.guest.ok([ 'cat', `${OTHER}/${name}` ]);
	}
}
