// SPDX-License-Identifier: GPL-2.0-only
'use strict';
'require view';
'require baseclass';
'require dom';
'require form';
'require fs';
'require network';
'require poll';
'require rpc';
'require uci';
'require ui';
'require validation';

/* What LuCI answers to whatever our pages ask of it, as JSON: with the stand-in it has to be the same. */

const answers = {};

function ask(name, work) {
	try {
		answers[name] = work() ?? null;
	}
	catch (error) {
		answers[name] = 'throws';
	}
}

function html(node) {
	return new XMLSerializer().serializeToString(node).replace(/ (?:data-idref|xmlns)="[^"]*"/g, '');
}

function members() {
	const wanted = {
		view: [ view, 'extend' ], baseclass: [ baseclass, 'extend' ], dom: [ dom, 'content', 'append', 'create', 'bindClassInstance', 'findClassInstance' ],
		fs: [ fs, 'list', 'write' ], network: [ network, 'registerProtocol', 'registerErrorCode', 'getIfnameOf' ], poll: [ poll, 'add' ], rpc: [ rpc, 'declare' ],
		uci: [ uci, 'load', 'sections', 'get', 'set', 'add', 'remove', 'save' ],
		ui: [ ui, 'showModal', 'hideModal', 'addNotification', 'createHandlerFn', 'Textfield', 'instantiateView' ],
		changes: [ ui.changes, 'apply' ], validation: [ validation, 'parseIPv4', 'parseIPv6' ],
		form: [ form, 'Map', 'NamedSection', 'GridSection', 'Value', 'ListValue', 'Flag', 'DynamicList', 'DummyValue', 'SectionValue' ],
		grid: [ form.GridSection.prototype, 'option', 'getUIElement', 'formvalue', 'handleAdd', 'handleRemove', 'renderSectionPlaceholder' ],
		named: [ form.NamedSection.prototype, 'tab', 'taboption' ],
		value: [ form.Value.prototype, 'depends', 'isActive', 'parse', 'cfgvalue', 'formvalue', 'value', 'write', 'remove' ],
		field: [ ui.Textfield.prototype, 'render', 'getValue', 'setValue', 'isValid', 'triggerValidation' ],
		L: [ L, 'require', 'resource', 'url', 'isObject', 'toArray', 'resolveDefault', 'hasViewPermission' ]
	};

	for (const [ name, [ from, ...names ] ] of Object.entries(wanted))
		names.forEach(member => ask(`${name}.${member}`, () => typeof from[member]));
}

function words() {
	[
		[ '%d of %d', 1.9, '7' ], [ '%s %s', 'a', null ], [ '%h', '<a href="x">&\'' ], [ '100%%' ], [ '%02x', 10 ], [ '%.1f,%.1f', 1.25, 10 ],
		[ '%1024.1mB', 0 ], [ '%1024.1mB', 1000 ], [ '%1024.1mB', 1024 * 1024 * 3 ], [ '%1000.1mbit/s', 999 ], [ '%1000.1mbit/s', 74200 ], [ '%dd', 3 ]
	].forEach(([ pattern, ...values ]) => ask(`format ${pattern} ${values}`, () => pattern.format(...values)));

	for (const value of [ null, undefined, '', 'a b', [ 'a b' ], [], 7 ])
		ask(`toArray ${JSON.stringify(value)}`, () => L.toArray(value));

	for (const value of [ null, {}, [], 'a', 7 ])
		ask(`isObject ${JSON.stringify(value)}`, () => L.isObject(value));

	ask('url', () => L.url('admin/vpn', 'x'));
	ask('resource', () => L.resource('ovpn/ovpn.css'));
	ask('permission', () => L.hasViewPermission());

	for (const address of [ '1.2.3.4', '1.2.3', '256.1.1.1', '1.2.3.4.5', ' 1.2.3.4', '', '::', '::1', 'fd00::', 'fd00:1:2:3:4:5:6:7', '1::2::3',
		'fd00:1:2:3:4:5:6:7:8', ':1', '12345::', '::ffff:1.2.3.4', '::ffff:1.2.3', 'g::' ])
		ask(`parse ${address}`, () => [ validation.parseIPv4(address), validation.parseIPv6(address) ]);
}

function nodes() {
	const cases = {
		text: () => E('p', [ '<b>', 1, null, E('i') ]),
		html: () => E('p', {}, 'a <b>b</b>'),
		attributes: () => E('a', { 'href': '#', 'title': null, 'data-x': 7 }, [ 'x' ]),
		node: () => E('p', E('b', [ 'x' ])),
		bare: () => E('p'),
		fragment: () => E([ E('b'), E('i') ]),
		content: () => { const node = E('p', [ 'old' ]); dom.content(node, [ 'new', E('b') ]); return node; },
		emptied: () => { const node = E('p', [ 'old' ]); dom.content(node, ''); return node; }
	};

	for (const [ name, make ] of Object.entries(cases))
		ask(`node ${name}`, () => html(make()));

	ask('event', () => { let hits = 0; E('p', { 'click': () => hits++ }).click(); return hits; });
	ask('class', () => {
		const Parent = baseclass.extend({ __init__(a) { this.a = a; }, name() { return `parent ${this.a}`; } });
		const Child = Parent.extend({ name() { return `child of ${this.super('name', [])}`; } });

		return [ new Parent(1).name(), new Child(2).name(), new Child(3) instanceof Parent ];
	});
}

function fields(place) {
	const field = new ui.Textfield('a', { id: 'probe-field', optional: false, validate: value => value == 'wrong' ? 'no' : true });
	const node = place.appendChild(field.render());
	const input = node.querySelector('input');

	for (const value of [ 'wrong', 'right', '', 'right' ])
		ask(`field '${value}' ${Object.keys(answers).length}`, () => {
			field.setValue(value);

			const changed = field.triggerValidation();

			return [ changed, field.isValid(), field.getValue(), input.classList.contains('cbi-input-invalid'), input.hasAttribute('data-tooltip'), node.id, input.id ];
		});

	node.remove();
}

async function forms(place) {
	const map = new form.Map('network', 'title', 'words');
	const grid = map.section(form.GridSection, 'openvpn_dco_vpn0', 'grid');

	grid.addremove = true;
	grid.anonymous = false;
	grid.addbtntitle = 'add one';
	grid.option(form.Value, 'peer_id', 'id').rmempty = false;
	grid.option(form.DynamicList, 'vpn_ip', 'ips');
	grid.option(form.Flag, 'disabled', 'off').editable = true;
	grid.option(form.Value, 'key_file', 'key').modalonly = true;

	const node = place.appendChild(await map.render());
	const text = selector => Array.from(node.querySelectorAll(selector), one => one.textContent.trim());

	ask('map', () => node.matches('.cbi-map'));
	ask('map of node', () => dom.findClassInstance(node) == map);
	ask('lines', () => Array.from(node.querySelectorAll('tr[data-sid]'), one => one.dataset.sid));
	ask('cells', () => text('tr[data-sid="alice"] [data-name="peer_id"], tr[data-sid="alice"] [data-name="vpn_ip"]'));
	ask('editable', () => node.querySelectorAll('tr[data-sid="alice"] [data-name="disabled"] input[type="checkbox"]').length);
	ask('modal only', () => node.querySelectorAll('tr[data-sid="alice"] [data-name="key_file"]').length);
	ask('buttons', () => text('tr[data-sid="alice"] button'));
	ask('add', () => [ text('.cbi-section-create button'), node.querySelector('.cbi-section-create button').disabled ]);
	ask('value', () => grid.children.map(option => option.cfgvalue('alice')));
	ask('of the form', () => grid.formvalue('alice', 'disabled'));
	node.remove();
}

return view.extend({
	handleSave: null,
	handleSaveApply: null,
	handleReset: null,

	async load() {
		const place = document.body.appendChild(E('div', { 'id': 'maincontent-probe' }));

		await uci.load('network');
		members();
		words();
		nodes();
		fields(place);
		await forms(place);
		place.remove();
	},

	render() {
		return E('pre', { 'id': 'probe' }, [ JSON.stringify(answers) ]);
	}
});
