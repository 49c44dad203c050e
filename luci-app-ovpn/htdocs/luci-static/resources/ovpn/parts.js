// SPDX-License-Identifier: GPL-2.0-only
'use strict';
'require baseclass';
'require ovpn.format as format';

/* Pieces of pages that more than one page shows. */

return baseclass.extend({
	/* The pages' style sheet, which lives in the theme's colours. */
	style() {
		return E('link', { 'rel': 'stylesheet', 'href': L.resource('ovpn/ovpn.css') });
	},

	label(text, kind) {
		return E('span', { 'class': 'label %s'.format(kind || '').trim() }, [ text ]);
	},

	stateLabel(word, error) {
		const [ text, kind ] = format.state(word);
		const node = this.label(text, kind);

		if (error)
			node.setAttribute('title', error);

		return node;
	},

	/* The finding, and below it the remedy. */
	banner(subject, finding) {
		const [ word, kind ] = format.severity(finding.severity);
		const where = finding.line ? _('line %d').format(finding.line) : subject;

		return E('div', {
			'class': 'alert-message %s ovpn-finding'.format(kind),
			'data-code': finding.code
		}, [
			E('h4', [ where ? '%s: %s'.format(word, where) : word ]),
			E('p', [ finding.text ]),
			finding.remedy ? E('p', { 'class': 'ovpn-remedy' }, [ finding.remedy ]) : ''
		]);
	},

	/* Problems of the configuration, as the daemon words them. */
	problems(list, severity) {
		return L.toArray(list).map(problem => this.banner(null, {
			severity: severity || 'error',
			code: 'config',
			text: problem.text,
			remedy: severity ? null : _('Correct it; what ran before goes on until then.')
		}));
	},

	/* An address that may break between its parts, but never before its port. */
	address(text) {
		const breaks = /^\[/.test(text) ? /(?<=[0-9a-f]:)(?=[0-9a-f:])/i : /[a-z]/i.test(text) ? /(?<=\.)/ : null;

		return E('span', { 'class': 'ovpn-address' }, breaks
			? text.split(breaks).flatMap((part, index) => index ? [ E('wbr'), part ] : [ part ]) : [ text ]);
	},

	/* Received and sent, each on one line. */
	pair(received, sent) {
		return [
			E('span', { 'class': 'ovpn-number', 'title': _('Received') }, [ '▼ %s'.format(received) ]), ' ',
			E('span', { 'class': 'ovpn-number', 'title': _('Sent') }, [ '▲ %s'.format(sent) ])
		];
	},

	noDaemon() {
		return this.banner(null, {
			severity: 'error',
			code: 'no-daemon',
			text: _('The daemon ovpnd does not answer.'),
			remedy: _('Start it with /etc/init.d/ovpnd start and look into the system log.')
		});
	},

	/* A table cell that a narrow screen shows with its column's title before it. */
	cell(title, content, kind) {
		return E('td', {
			'class': 'td left %s'.format(kind || '').trim(),
			'data-title': title
		}, Array.isArray(content) ? content : [ content ]);
	},

	head(titles) {
		return E('tr', { 'class': 'tr table-titles' },
			titles.map(title => E('th', { 'class': 'th left' }, [ title ])));
	}
});
