// SPDX-License-Identifier: GPL-2.0-only
// Stand-in for the part of LuCI's luci.js that our pages use: classes, nodes, views, the poll, and `L` itself.
'use strict';

{
	class Base {
		super(key, args) {
			let from = Object.getPrototypeOf(this);

			while (!Object.prototype.hasOwnProperty.call(from, key))
				from = Object.getPrototypeOf(from);

			return Object.getPrototypeOf(from)[key].apply(this, args);
		}
	}

	Base.extend = function(members) {
		const Parent = this;
		const Made = function(...args) {
			this.__init__?.(...args);
		};

		Made.prototype = Object.assign(Object.create(Parent.prototype), members);
		Made.prototype.constructor = Made;
		Made.extend = Parent.extend;

		return Made;
	};

	const instances = new WeakMap();

	const dom = {
		elem: one => one instanceof Node,

		/* A list's strings are text; a string alone is HTML, which is what our pages must not pass on unseen. */
		append(node, children) {
			if (Array.isArray(children))
				node.append(...children.filter(child => child != null));
			else if (dom.elem(children))
				node.append(children);
			else if (children != null)
				node.append(document.createRange().createContextualFragment(String(children)));

			return node.lastChild;
		},

		content(node, children) {
			node.replaceChildren();
			return dom.append(node, children);
		},

		attr(node, attributes) {
			for (const [ key, value ] of Object.entries(attributes ?? {}))
				if (typeof value == 'function')
					node.addEventListener(key, value);
				else if (value != null)
					node.setAttribute(key, value);
		},

		create(name, attributes, children) {
			if (Array.isArray(attributes) || typeof attributes != 'object')
				[ attributes, children ] = [ null, attributes ];

			const node = Array.isArray(name) ? document.createDocumentFragment() : document.createElement(name);

			dom.attr(node, attributes);
			dom.append(node, children ?? (Array.isArray(name) ? name : null));

			return node;
		},

		bindClassInstance: (node, instance) => instances.set(node, instance),
		findClassInstance: node => instances.get(node)
	};

	const poll = {
		tasks: [],

		add(work, seconds) {
			this.tasks.push(setInterval(work, (seconds ?? L.env.pollinterval) * 1000));
			return true;
		}
	};

	const View = Base.extend({
		load() {},
		render() {},

		async __init__() {
			const place = document.getElementById('view');

			dom.content(place, E('div', { 'class': 'spinning' }, [ _('Loading view…') ]));

			try {
				const nodes = await this.render(await this.load());

				dom.content(place, nodes);
				dom.append(place, this.addFooter());
			}
			catch (error) {
				dom.content(place, E('pre', [ String(error.stack ?? error) ]));
				throw error;
			}
		},

		maps() {
			return Array.from(document.querySelectorAll('#maincontent .cbi-map'), dom.findClassInstance);
		},

		handleSave() {
			return Promise.all(this.maps().map(map => map.save()));
		},

		async handleSaveApply(ev, mode) {
			await this.handleSave(ev);
			(await L.require('ui')).changes.apply(mode == '0');
		},

		handleReset() {
			return Promise.all(this.maps().map(map => map.reset()));
		},

		addFooter() {
			const button = (member, kind, words) => this[member] ? E('button', {
				'class': `btn cbi-button ${kind}`,
				'disabled': !L.hasViewPermission() || null,
				'click': ev => this[member](ev, '0')
			}, [ words ]) : '';

			if (!this.handleSaveApply && !this.handleSave && !this.handleReset)
				return E([]);

			return E('div', { 'class': 'cbi-page-actions' }, [
				button('handleSaveApply', 'cbi-button-apply important', 'Save & Apply'),
				button('handleSave', 'cbi-button-save', 'Save'),
				button('handleReset', 'cbi-button-reset', 'Reset')
			]);
		}
	});

	const classes = { baseclass: Base, dom, poll, view: View };

	window.E = dom.create;

	window.LuCI = class {
		constructor(env) {
			this.env = env;
			window.L = this;
		}

		isObject(value) {
			return value != null && typeof value == 'object';
		}

		toArray(value) {
			if (value == null)
				return [];

			return Array.isArray(value) ? value : typeof value == 'object' ? [ value ] : String(value).trim().split(/\s+/).filter(Boolean);
		}

		resolveDefault(value, otherwise) {
			return Promise.resolve(value).catch(() => otherwise);
		}

		hasViewPermission() {
			return this.env.nodespec.satisfied ? !this.env.nodespec.readonly : null;
		}

		resource(...parts) {
			return [ this.env.resource, ...parts ].join('/');
		}

		url(...parts) {
			return [ this.env.scriptname, ...parts ].join('/');
		}

		/* Loads a module with what it requires; a module is what its body returns, made once. */
		require(name) {
			classes[name] ??= this.make(name);

			return Promise.resolve(classes[name]);
		}

		async make(name) {
			const answer = await fetch(this.resource(`${name.replace(/\./g, '/')}.js`));

			if (!answer.ok)
				throw new Error(`HTTP error ${answer.status} while loading ${name}`);

			const source = await answer.text();
			const head = source.match(/^(?:\s|\/\/.*|\/\*[^]*?\*\/|'(?:use strict|require [^']+)';)*/)[0];
			const needs = Array.from(head.matchAll(/^'require (\S+?)(?: as (\S+?))?';/gm), ([ , what, as ]) => [ what, as ?? what.replace(/\W/g, '_') ]);
			const modules = await Promise.all(needs.map(([ what ]) => this.require(what)));
			const Made = new Function('window', 'document', 'L', ...needs.map(([ , as ]) => as), source)(window, document, this, ...modules);

			return typeof Made == 'function' && !(Made.prototype instanceof Base) ? Made : new Made();
		}
	};
}
