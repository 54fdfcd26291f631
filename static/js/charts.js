// Draws the page's charts from JSON in Plotly's figure form, in the colours of the design tokens.
(function () {
  'use strict';
  var box = document.getElementById('charts');
  if (!box || !box.dataset.chartsSrc) { return; }
  var EVERY_MS = 4000, HIDDEN_MS = 30000, etag = null, latest = [], timer = null;
  var ROLE = { line: '--c-line', stable: '--c-alt', end: '--c-line', limit: '--c-limit', release: '--c-release', action: '--breach', beyond: '--breach',
    split1: '--c-line', split2: '--c-alt', split3: '--breach', split4: '--ink-2', split5: '--ink-3' };

  function token(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }

  function theme(figure) {
    var ink2 = token('--ink-2'), layout = figure.layout;
    figure.data.forEach(function (trace) {
      var role = trace.meta && trace.meta.role;
      if (role === 'ribbon') { trace.fillcolor = token('--c-ribbon'); return; }
      if (!ROLE[role]) { return; }
      if (trace.textfont) { trace.textfont.color = ink2; }
      if (trace.line) { trace.line.color = token(ROLE[role]); }
      if (trace.marker) {
        trace.marker.color = token(ROLE[role]);
        if (trace.marker.line) { trace.marker.line.color = token('--surface'); }
      }
    });
    layout.shapes.forEach(function (shape) { if (ROLE[shape.name]) { shape.line.color = token(ROLE[shape.name]); } });
    layout.annotations.forEach(function (label) { label.font.color = label.name === 'limit' ? token('--ink') : ink2; });
    layout.font.family = token('--font');
    layout.font.color = token('--ink-3');
    layout.xaxis.tickcolor = token('--line-2');
    layout.yaxis.gridcolor = token('--c-grid');
    layout.hoverlabel = { bgcolor: token('--raised'), bordercolor: token('--line-2'), font: { color: token('--ink'), size: 12 } };
    layout.transition = { duration: 0 };
    return figure;
  }

  function tell(el, text) {
    var p = document.createElement('p');
    p.className = 'fig-none';
    p.textContent = text;
    el.replaceChildren(p);
  }

  function table(chart) {
    var body = document.querySelector('[data-chart-table="' + chart.key + '"]');
    if (!body || body.contains(document.activeElement) || !chart.rows.length) { return; }
    var rows = document.createDocumentFragment();
    chart.rows.forEach(function (cells, at) {
      var row = document.createElement('tr');
      cells.forEach(function (text, place) {
        var cell = row.insertCell(), href = chart.links[at][place];
        if (!href) { cell.textContent = text; return; }
        var link = document.createElement('a');
        link.href = href;
        link.textContent = text;
        link.setAttribute('aria-label', text + ' at ' + cells[0] + ': the runs behind it');
        cell.appendChild(link);
      });
      rows.appendChild(row);
    });
    body.replaceChildren(rows);
  }

  // A point leads to the runs behind it, as its row in the table does.
  function drill(el) {
    el.on('plotly_click', function (event) {
      var hit = event.points.find(function (point) { return point.customdata && point.customdata[3]; });
      if (hit) { location.assign(hit.customdata[3]); }
    });
  }

  function draw() {
    latest.forEach(function (chart) {
      var el = document.querySelector('[data-chart="' + chart.key + '"]');
      if (!el) { return; }
      table(chart);
      if (!window.Plotly) { tell(el, 'The chart cannot be drawn. The table below has the same numbers.'); return; }
      var empty = el.querySelector('.fig-none');
      if (empty) { empty.remove(); }
      var figure = theme(structuredClone(chart.figure));
      figure.layout.height = el.clientHeight || figure.layout.height;
      window.Plotly.react(el, figure.data, figure.layout, { displayModeBar: false, responsive: true, showTips: false });
      if (!('drawn' in el.dataset)) { drill(el); }
      el.dataset.drawn = '';
    });
  }

  function poll() {
    clearTimeout(timer);
    var headers = etag ? { 'If-None-Match': etag } : {};
    fetch(box.dataset.chartsSrc, { headers: headers, cache: 'no-store', credentials: 'same-origin', signal: AbortSignal.timeout(8000) })
      .then(function (response) {
        if (response.status === 304) { return null; }
        if (!response.ok) { throw new Error('status ' + response.status); }
        etag = response.headers.get('ETag');
        return response.json();
      })
      .then(function (body) { if (body) { latest = body.charts; draw(); } })
      .catch(function () { /* the age in the top bar says it; the last drawing stays */ })
      .then(function () {
        timer = setTimeout(poll, (document.hidden ? HIDDEN_MS : EVERY_MS) * (0.85 + 0.3 * Math.random()));
      });
  }

  document.addEventListener('console:refresh', poll);
  document.addEventListener('visibilitychange', function () { if (!document.hidden) { poll(); } });
  new MutationObserver(draw).observe(document.documentElement, { attributes: true, attributeFilter: ['data-theme'] });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
  poll();
}());
