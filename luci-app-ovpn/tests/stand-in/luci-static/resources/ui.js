// SPDX-License-Identifier: GPL-2.0-only
// Stand-in for the part of LuCI's ui.js that our pages use: dialogs, notices, fields, and applying changes.
'use strict';
'require baseclass';
'require dom';

/* Conditions on a value; of LuCI's many types those that our forms name. */
const TYPES = {
	range: (value, low, high) => /^-?\d+$/.test(value) && +value >= low && +value <= high ? true : 'a number from %d to %d'.format(low, high),
	uciname: value => /^[A-Za-z0-9_]+$/.test(value) ? true : 'a name'
};

function typed(type, value) {
	const [ , name, args ] = type.match(/^(\w+)(?:\((.*)\))?$/);
	const valid = TYPES[name](value, ...(args ?? '').split(',').map(Number));

	return valid === true || 'Expecting: %s'.format(valid);
}

/* Marks a field by what is wrong with it; returns whether it is right. */
function mark(node, valid) {
	node.classList.toggle('cbi-input-invalid', valid !== true);

	if (valid === true)
		node.removeAttribute('data-tooltip');
	else
		node.setAttribute('data-tooltip', valid);

	return valid === true;
}

const Element = baseclass.extend({
	__init__(value, options) {
		this.value = value;
		this.options = { optional: true, ...options };
		this.valid = true;
	},

	/* The node that shows a mistake, and the value that is judged. */
	field() {
		return this.node.querySelector('input, select');
	},

	triggerValidation() {
		const { datatype, optional, validate } = this.options;
		const value = this.field().value ?? '';
		let valid = value !== '' || optional || 'Expecting: non-empty value';

		if (valid === true && value !== '' && datatype)
			valid = typed(datatype, value);

		if (valid === true && validate)
			valid = validate(value);

		const was = this.valid;

		this.valid = mark(this.field(), valid);

		return was != this.valid;
	},

	isValid() {
		return this.valid;
	},

	getValue() {
		return this.field().value;
	},

	setValue(value) {
		this.field().value = value;
	},

	bind(node, ...events) {
		this.node = node;
		events.forEach(event => this.field().addEventListener(event, () => this.triggerValidation()));
		dom.bindClassInstance(node, this);

		return node;
	}
});

const Textfield = Element.extend({
	render() {
		const { id, placeholder, password } = this.options;

		return this.bind(E('div', { id }, [
			E('input', { 'id': id ? `widget.${id}` : null, 'type': password ? 'password' : 'text', 'class': 'cbi-input-text',
				placeholder, 'value': this.value })
		]), 'keyup', 'blur');
	}
});

const Select = Element.extend({
	render() {
		return this.bind(E('div', { 'id': this.options.id }, [ E('select', { 'id': `widget.${this.options.id}`, 'class': 'cbi-input-select' }, this.options.choices.map(([ value, words ]) =>
			E('option', { value, 'selected': value == this.value ? '' : null }, [ words ]))) ]), 'change', 'blur');
	}
});

const Checkbox = Element.extend({
	render() {
		return this.bind(E('div', { 'id': this.options.id, 'class': 'cbi-checkbox' }, [
			E('input', { 'id': `widget.${this.options.id}`, 'type': 'checkbox', 'value': '1', 'checked': this.value == '1' ? '' : null })
		]), 'click', 'blur');
	},

	getValue() {
		return this.field().checked ? '1' : '0';
	}
});

const DynamicList = Element.extend({
	render() {
		const input = E('input', { 'id': `widget.${this.options.id}`, 'type': 'text', 'class': 'cbi-input-text' });
		const check = () => mark(input, this.options.validate?.(input.value) ?? true);
		const take = () => {
			if (input.value && check()) {
				this.add(input.value);
				input.value = '';
				this.triggerValidation();
			}
		};

		input.addEventListener('keyup', check);
		input.addEventListener('keydown', ev => ev.key == 'Enter' && (ev.preventDefault(), take()));
		this.list = E('div', { 'class': 'cbi-dynlist' }, [
			E('div', { 'class': 'add-item' }, [ input, E('div', { 'class': 'btn cbi-button cbi-button-add', 'click': take }, [ '+' ]) ])
		]);
		L.toArray(this.value).forEach(value => this.add(value));

		return this.bind(this.list);
	},

	field() {
		return this.list;
	},

	add(value) {
		const item = E('div', { 'class': 'item', 'click': () => { item.remove(); this.triggerValidation(); } }, [
			E('span', [ value ]), E('input', { 'type': 'hidden', value })
		]);

		this.list.lastElementChild.before(item);
	},

	getValue() {
		return Array.from(this.list.querySelectorAll('.item > input'), input => input.value);
	}
});

return baseclass.extend({
	Element, Textfield, Select, Checkbox, DynamicList, mark, typed,

	showModal(title, children, ...kinds) {
		const dialog = document.querySelector('#modal_overlay .modal')
			?? document.body.appendChild(E('div', { 'id': 'modal_overlay' }, [ E('div', { 'class': 'modal', 'role': 'dialog' }) ])).firstChild;

		dialog.className = [ 'modal', ...kinds ].join(' ');
		dom.content(dialog, title == null ? null : E('h4', {}, title));
		dom.append(dialog, children);
		document.body.classList.add('modal-overlay-active');

		return dialog;
	},

	hideModal() {
		document.body.classList.remove('modal-overlay-active');
	},

	addNotification(title, children, ...kinds) {
		const node = E('div', { 'class': [ 'alert-message', ...kinds ].join(' ') });

		dom.append(node, title == null ? null : E('h4', {}, title));
		dom.append(node, children);
		document.getElementById('maincontent').prepend(node);

		return node;
	},

	createHandlerFn(self, work, ...args) {
		const call = typeof work == 'string' ? self[work] : work;

		return (ev) => {
			const button = ev.currentTarget;

			button.disabled = true;
			button.classList.add('spinning');

			return Promise.resolve(call.call(self, ...args, ev)).finally(() => {
				button.disabled = false;
				button.classList.remove('spinning');
			});
		};
	},

	instantiateView(path) {
		return L.require('view.%s'.format(path.replace(/\//g, '.')));
	},

	changes: {
		async apply(checked) {
			const post = (what, query) => fetch('%s?%s'.format(L.url('admin/uci', what), new URLSearchParams(query)), { method: 'POST' });
			const answer = await post(checked ? 'apply_rollback' : 'apply_unchecked', { sid: L.env.sessionid, token: L.env.token });

			if (checked && answer.status == 200)
				await post('confirm', await answer.json());

			if (answer.ok)
				window.location.reload();
		}
	}
});
