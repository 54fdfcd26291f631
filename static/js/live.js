// Keeps the page's live regions fresh: polls with the ETag and swaps only what changed.
(function () {
  'use strict';
  var body = document.body, every = Number(body.dataset.liveEvery) * 1000;
  var HIDDEN_MS = 30000, timer = null, etag = null, seen = {}, under = false, forced = false, again = false;

  function signature(el) { return el.outerHTML; }

  // A region is left alone while somebody uses it: focus, an open menu, a dialog, a selection.
  function busy(el) {
    if (!forced && el.contains(document.activeElement)) { return true; }
    if (el.querySelector('details.menu[open], dialog[open]')) { return true; }
    var picked = getSelection();
    return !!picked && !picked.isCollapsed && el.contains(picked.anchorNode);
  }

  // What held the focus may be gone after a containment: its row or its region stands in for it.
  function refocus(fresh, held) {
    var next = held.id ? document.getElementById(held.id) : null;
    next = next || fresh.querySelector('[data-action="' + held.dataset.action + '"]') ||
      document.querySelector('[data-row-link][href="/rollouts/' + held.dataset.rollout + '/"]') ||
      document.getElementById('main');
    next.focus({ preventScroll: true });
  }

  function put(id, next) {
    var here = document.getElementById(id);
    if (!here) { return false; }
    if (seen[id] === signature(next)) { return true; }
    if (busy(here)) { return false; }
    seen[id] = signature(next);
    var held = here.contains(document.activeElement) ? document.activeElement : null;
    var open = Array.prototype.map.call(here.querySelectorAll('details[id][open]'), function (d) { return d.id; });
    var fresh = document.importNode(next, true);
    here.replaceWith(fresh);
    open.forEach(function (each) { var d = document.getElementById(each); if (d) { d.open = true; } });
    if (window.htmx) { window.htmx.process(fresh); }
    if (held) { refocus(fresh, held); }
    return true;
  }

  function ids(el) { return Array.prototype.map.call(el.querySelectorAll('[data-live-row]'), function (row) { return row.id; }); }

  // Rows are swapped one by one, and never reordered under the pointer.
  function putList(id, next) {
    var here = document.getElementById(id);
    if (!here) { return false; }
    var same = ids(here).join(' ') === ids(next).join(' ');
    var moved = !same && !busy(here) && !here.matches(':hover');
    if (moved) {
      next.querySelectorAll('[data-live-row]').forEach(function (row) { seen[row.id] = signature(row); });
      return put(id, next);
    }
    var all = same;
    next.querySelectorAll('[data-live-row]').forEach(function (row) { all = put(row.id, row) && all; });
    return all;
  }

  function take(html) {
    var parsed = new DOMParser().parseFromString(html, 'text/html'), all = true;
    parsed.querySelectorAll('[data-live]').forEach(function (el) {
      var list = el.hasAttribute('data-live-list');
      all = (list ? putList(el.id, el) : put(el.id, el)) && all;
    });
    return all;
  }

  function poll() {
    clearTimeout(timer);
    if (under) { again = forced; return; }
    under = true;
    var headers = { 'X-Live': '1' };
    if (etag) { headers['If-None-Match'] = etag; }
    fetch(location.href.split('#')[0], { headers: headers, cache: 'no-store', credentials: 'same-origin', signal: AbortSignal.timeout(8000) })
      .then(function (response) {
        if (response.status === 401) { location.reload(); return null; }
        if (!response.ok && response.status !== 304) { throw new Error('status ' + response.status); }
        var detail = { now: response.headers.get('X-Now'), watched: response.headers.get('X-Watched-At') };
        if (response.status === 304) { return detail; }
        return response.text().then(function (html) {
          // A skipped region is asked for again: without an ETag the next answer is whole.
          etag = take(html) ? response.headers.get('ETag') : null;
          return detail;
        });
      })
      .then(function (detail) { if (detail) { document.dispatchEvent(new CustomEvent('console:read', { detail: detail })); } })
      .catch(function () { /* the age in the top bar says it */ })
      .then(function () {
        under = false;
        if (again) { again = false; poll(); return; }
        forced = false;
        plan();
      });
  }

  function plan() {
    clearTimeout(timer);
    timer = setTimeout(poll, (document.hidden ? HIDDEN_MS : every) * (0.85 + 0.3 * Math.random()));
  }
  document.addEventListener('visibilitychange', function () { if (!document.hidden) { poll(); } });
  // After a containment the person who pressed sees the outcome at once, focus or not.
  document.addEventListener('console:refresh', function () { forced = true; etag = null; poll(); });
  plan();
}());
