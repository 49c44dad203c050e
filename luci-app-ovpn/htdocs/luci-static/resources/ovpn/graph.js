// SPDX-License-Identifier: GPL-2.0-only
'use strict';
'require baseclass';
'require ovpn.format as format';

/* The rates of the last minutes as two lines that scale with their place. */

const SVG = 'http://www.w3.org/2000/svg';
const WIDTH = 600;
const HEIGHT = 120;
/* Five minutes at LuCI's five seconds. */
const SAMPLES = 60;
/* Bytes per second below which a graph looks empty. */
const FLOOR = 125;

function node(name, attributes, children) {
	const made = document.createElementNS(SVG, name);

	for (const key in attributes)
		made.setAttribute(key, attributes[key]);

	for (const child of children || [])
		made.appendChild(child);

	return made;
}

/* The next larger of 1, 2 and 5 times a power of ten, so that the scale stands still most of the time. */
function roundUp(value) {
	const power = Math.pow(10, Math.floor(Math.log10(value)));

	for (const factor of [ 1, 2, 5, 10 ])
		if (factor * power >= value)
			return factor * power;

	return value;
}

class Graph {
	constructor(name) {
		this.samples = [];
		this.last = null;
		this.rx = node('polyline', { 'class': 'ovpn-rx', 'fill': 'none' });
		this.tx = node('polyline', { 'class': 'ovpn-tx', 'fill': 'none' });
		this.scale = E('span', { 'class': 'ovpn-scale' });
		this.now = E('span', { 'class': 'ovpn-now' });

		const lines = [ 0.25, 0.5, 0.75 ].map(part => node('line', {
			'class': 'ovpn-grid', 'x1': 0, 'x2': WIDTH, 'y1': HEIGHT * part, 'y2': HEIGHT * part
		}));

		const svg = node('svg', {
			'viewBox': '0 0 %d %d'.format(WIDTH, HEIGHT),
			'preserveAspectRatio': 'none',
			'role': 'img',
			'aria-label': _('Rates of %s in the last five minutes').format(name)
		}, [ ...lines, this.rx, this.tx ]);

		this.root = E('div', { 'class': 'ovpn-graph' }, [
			E('div', { 'class': 'ovpn-axis' }, [ this.scale, this.now ]),
			svg,
			E('div', { 'class': 'ovpn-axis ovpn-since' }, [ E('span', [ _('5 minutes ago') ]), E('span', [ _('now') ]) ])
		]);
	}

	/* Takes counters (rx_bytes, tx_bytes) of now; a counter that went back started anew. */
	add(counters, milliseconds) {
		const last = this.last;

		this.last = { rx: counters.rx_bytes, tx: counters.tx_bytes, at: milliseconds };

		if (last && milliseconds > last.at) {
			const seconds = (milliseconds - last.at) / 1000;

			this.samples.push({
				rx: Math.max(0, counters.rx_bytes - last.rx) / seconds,
				tx: Math.max(0, counters.tx_bytes - last.tx) / seconds
			});

			this.samples.splice(0, this.samples.length - SAMPLES);
		}

		this.draw();
	}

	draw() {
		const highest = this.samples.reduce((most, one) => Math.max(most, one.rx, one.tx), FLOOR);
		const top = roundUp(highest * 8) / 8;
		const step = WIDTH / (SAMPLES - 1);
		/* A line needs two points, also at the first sample. */
		const samples = this.samples.length == 1 ? [ this.samples[0], this.samples[0] ] : this.samples;
		const points = (which) => samples.map((sample, index) => '%.1f,%.1f'.format(
			WIDTH - (samples.length - 1 - index) * step,
			HEIGHT - sample[which] / top * (HEIGHT - 2) - 1
		)).join(' ');
		const now = this.samples[this.samples.length - 1];

		this.rx.setAttribute('points', points('rx'));
		this.tx.setAttribute('points', points('tx'));
		this.scale.textContent = format.rate(top);
		this.now.replaceChildren(
			E('span', { 'class': 'ovpn-rx', 'title': _('Received') }, [ '▼ %s'.format(format.rate(now?.rx)) ]), ' ',
			E('span', { 'class': 'ovpn-tx', 'title': _('Sent, dashed in the graph') }, [ '▲ %s'.format(format.rate(now?.tx)) ])
		);
	}
}

return baseclass.extend({
	/* A graph of the interface `name`; its `root` is the node to show. */
	create(name) {
		return new Graph(name);
	}
});
