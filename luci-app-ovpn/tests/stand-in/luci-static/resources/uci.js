// SPDX-License-Identifier: GPL-2.0-only
// Stand-in for the part of LuCI's uci.js that our pages use: configurations in memory, and what changed in them.
'use strict';
'require baseclass';
'require rpc';

const callGet = rpc.declare({ object: 'uci', method: 'get', params: [ 'config' ], expect: { values: {} }, reject: true });
const callAdd = rpc.declare({ object: 'uci', method: 'add', params: [ 'config', 'type', 'name', 'values' ], expect: { section: '' }, reject: true });
const callSet = rpc.declare({ object: 'uci', method: 'set', params: [ 'config', 'section', 'values' ], reject: true });
const callDelete = rpc.declare({ object: 'uci', method: 'delete', params: [ 'config', 'section', 'options' ], reject: true });

const plain = ([ key ]) => !key.startsWith('.');

return baseclass.extend({
	loaded: {},
	now: {},

	async load(config) {
		if (!this.now[config]) {
			this.loaded[config] = await callGet(config);
			this.now[config] = structuredClone(this.loaded[config]);
		}
	},

	unload(config) {
		delete this.now[config];
	},

	sections(config, type) {
		return Object.values(this.now[config] ?? {}).filter(section => !type || section['.type'] == type)
			.sort((a, b) => a['.index'] - b['.index']);
	},

	get(config, section, option) {
		const found = this.now[config]?.[section];

		return option == null ? found ?? null : found?.[option] ?? null;
	},

	set(config, section, option, value) {
		if (value == null || value === '' || Array.isArray(value) && !value.length)
			delete this.now[config][section][option];
		else
			this.now[config][section][option] = value;
	},

	add(config, type, name) {
		this.now[config][name] = { '.type': type, '.name': name, '.anonymous': false, '.index': 1000 + Object.keys(this.now[config]).length };

		return name;
	},

	remove(config, section) {
		delete this.now[config][section];
	},

	async save() {
		for (const config of Object.keys(this.now)) {
			const [ old, now ] = [ this.loaded[config], this.now[config] ];

			for (const name of Object.keys(old))
				if (!now[name])
					await callDelete(config, name, null);

			for (const [ name, section ] of Object.entries(now)) {
				const before = old[name] ?? {};
				const set = Object.entries(section).filter(plain).filter(([ key, value ]) => JSON.stringify(value) != JSON.stringify(before[key]));
				const gone = Object.entries(before).filter(plain).map(([ key ]) => key).filter(key => section[key] == null);

				if (!old[name])
					await callAdd(config, section['.type'], name, Object.fromEntries(set));
				else if (set.length)
					await callSet(config, name, Object.fromEntries(set));

				if (gone.length)
					await callDelete(config, name, gone);
			}

			this.unload(config);
			await this.load(config);
		}
	}
});
