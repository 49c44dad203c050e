// SPDX-License-Identifier: GPL-2.0-only
// The guest at the other end of the line: `ovpn-tests bridge` answers each line of JSON with one.

import net from 'node:net';

/* Characters of a request that are sent at once: in JSON, and each up to three bytes, they fit. */
const PIECE = 500;
/* Milliseconds for an answer. */
const PATIENCE = 60000;

export class Guest {
	/** `fd` is a socket that leads to the guest's console. */
	constructor(fd) {
		this.waiting = [];
		this.rest = '';
		this.socket = new net.Socket({ fd, readable: true, writable: true });
		this.socket.setEncoding('utf8');
		this.socket.on('data', text => this.take(text));
		this.socket.on('close', () => this.waiting.splice(0).forEach(({ reject }) => reject(new Error('the guest is gone'))));
		this.socket.on('error', () => {});
		this.ready = this.next();
	}

	next() {
		return new Promise((resolve, reject) => this.waiting.push({ resolve, reject }));
	}

	take(text) {
		const lines = (this.rest + text).split('\n');

		this.rest = lines.pop();

		for (const line of lines)
			this.waiting.shift()?.resolve(JSON.parse(line));
	}

	/** Sends a line and resolves to that which answers it. */
	async exchange(line) {
		await this.ready;

		const answer = this.next();
		const late = new Promise((resolve, reject) => {
			this.alarm = setTimeout(() => reject(new Error(`no answer of the guest to ${line.slice(0, 200)}`)), PATIENCE);
		});

		this.socket.write(line + '\n');

		try {
			return await Promise.race([ answer, late ]);
		}
		finally {
			clearTimeout(this.alarm);
		}
	}

	/* One after the other: the pieces of two requests must not mix. */
	ask(request) {
		const turn = (this.last ?? Promise.resolve()).then(() => this.asked(request));

		this.last = turn.catch(() => {});

		return turn;
	}

	async asked(request) {
		let line = JSON.stringify(request);

		// A terminal holds 4 KiB of unread data and loses the rest.
		if (line.length > PIECE) {
			for (let at = 0; at < line.length; at += PIECE)
				await this.exchange(JSON.stringify({ piece: line.slice(at, at + PIECE) }));

			line = '{"whole":true}';
		}

		const got = await this.exchange(line);

		if (got.error)
			throw new Error(`the guest: ${JSON.stringify(request)}: ${got.error}`);

		return got;
	}

	/** Runs a program in one of the two namespaces; resolves to { code, out, err }. */
	run(words, { ns = 0, input } = {}) {
		return this.ask({ run: words, ns, input });
	}

	/** The same, which must succeed; resolves to its output. */
	async ok(words, options) {
		const { code, out, err } = await this.run(words, options);

		if (code !== 0)
			throw new Error(`${words.join(' ')}: status ${code}\n${err}${out}`);

		return out;
	}

	start(words, ns = 0) {
		return this.ask({ start: words, ns });
	}

	/** Writes a file of the guest, with its directory. */
	write(path, text, mode = '0600') {
		return this.ok([ 'install', '-D', '-m', mode, '/dev/stdin', path ], { input: text });
	}

	/** Loads or unloads the driver. */
	module(there) {
		return this.ask({ module: there });
	}

	ubus(object, method, args, socket) {
		return this.ask({ ubus: [ object, method ], args, socket });
	}

	/** Lets go of the line; its owner tells the guest to end. */
	end() {
		this.socket.destroy();
	}
}
