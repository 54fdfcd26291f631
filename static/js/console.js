// Menus, ages that count, the keyboard. Nothing here is needed to contain.
(function () {
  'use strict';
  var body = document.body;
  // The server's clock minus ours, so that ages are right on a machine whose clock is not.
  var skew = Date.parse(body.dataset.now) - Date.now() || 0;
  var STALE_S = 30;

  function now() { return Date.now() + skew; }

  function span(seconds) {
    var s = Math.max(0, Math.floor(seconds));
    if (s < 60) { return s + ' s'; }
    if (s < 3600) { return Math.floor(s / 60) + ' min' + (s % 60 ? ' ' + s % 60 + ' s' : ''); }
    if (s < 86400) { return Math.floor(s / 3600) + ' h ' + Math.floor(s % 3600 / 60) + ' min'; }
    return Math.floor(s / 86400) + ' d ' + Math.floor(s % 86400 / 3600) + ' h';
  }

  function tell(el, text) { if (el && el.textContent !== text) { el.textContent = text; } }

  function tick() {
    document.querySelectorAll('time[data-age]').forEach(function (el) {
      tell(el, span((now() - Date.parse(el.dateTime)) / 1000) + ' ago');
    });
    document.querySelectorAll('time[data-left]').forEach(function (el) {
      var s = (Date.parse(el.dateTime) - now()) / 1000;
      tell(el, s > 0 ? 'in ' + span(s) : 'now');
    });
    freshness();
  }

  function freshness() {
    var live = body.dataset.liveEvery, watched = Date.parse(body.dataset.watched);
    if (!live) { return; }
    var fresh = document.getElementById('fresh'), offline = document.getElementById('offline');
    var unread = (Date.now() - window.console_read) / 1000;
    var age = isNaN(watched) ? unread : (now() - watched) / 1000;
    var old = age > STALE_S;
    tell(document.getElementById('fresh-text'), (old ? 'Stale · ' : 'Live · ') + (isNaN(watched) ? 'not read yet' : span(age) + ' ago'));
    fresh.dataset.s = old ? 'stale' : 'ok';
    offline.hidden = unread <= STALE_S;
    tell(document.getElementById('offline-age'), span(unread) + ' old');
    if (old) { body.dataset.stale = ''; } else { delete body.dataset.stale; }
  }
  window.console_read = Date.now();

  document.addEventListener('console:read', function (event) {
    window.console_read = Date.now();
    if (event.detail.now) { skew = Date.parse(event.detail.now) - Date.now(); }
    if (event.detail.watched) { body.dataset.watched = event.detail.watched; }
    tick();
  });
  setInterval(tick, 1000);
  tick();

  // --- menus ---
  document.addEventListener('click', function (event) {
    document.querySelectorAll('details.menu[open]').forEach(function (menu) {
      if (!menu.contains(event.target) || event.target.closest('.pop a')) { menu.open = false; }
    });
  });

  // --- help ---
  var help = document.getElementById('help'), box = document.getElementById('shortcuts-on');
  function shortcuts() { try { return localStorage.getItem('shortcuts') !== 'off'; } catch (error) { return true; } }
  if (box) {
    box.checked = shortcuts();
    box.addEventListener('change', function () {
      try { localStorage.setItem('shortcuts', box.checked ? 'on' : 'off'); } catch (error) { /* private mode */ }
    });
  }
  function openHelp() { if (help && !help.open) { help.showModal(); document.getElementById('help-t').focus(); } }
  document.addEventListener('click', function (event) {
    if (event.target.closest('[data-open-help]')) { openHelp(); }
  });

  // --- keyboard: letters open a form or a page; none commits ---
  var places = { o: '/', a: '/alerts/', p: '/approvals/', l: '/audit/' };
  var letters = {
    p: '.cbar [data-action="pause"], .cbar [data-action="resume"]',
    n: '.cbar [data-action="narrow"]',
    f: '.cbar [data-action="fallback"]',
    r: '.cbar [data-action="rollback"]',
    x: '.cbar [data-action="disable_action"]',
    e: '.cbar [data-action="expand"]'
  };
  var going = 0;
  function rows() { return Array.prototype.slice.call(document.querySelectorAll('[data-row-link]')); }
  function step(by) {
    var all = rows(), at = all.indexOf(document.activeElement);
    var next = all[at < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(all.length - 1, Math.max(0, at + by))];
    if (next) { next.focus(); next.scrollIntoView({ block: 'nearest' }); }
  }
  function press(selector) { var el = document.querySelector(selector); if (el) { el.click(); } return !!el; }

  document.addEventListener('keydown', function (event) {
    if (event.key === 'Escape') {
      document.querySelectorAll('details.menu[open]').forEach(function (menu) {
        menu.open = false; menu.querySelector('summary').focus();
      });
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) { return; }
    if (event.target.closest('input, textarea, select, [contenteditable]') || document.querySelector('dialog[open]')) { return; }
    if (!shortcuts()) { return; }
    var key = event.key.toLowerCase(), done = true;
    if (Date.now() - going < 1500 && places[key]) { going = 0; location.assign(places[key]); }
    else if (key === 'g') { going = Date.now(); }
    else if (key === '/') { document.getElementById('jump').focus(); }
    else if (key === '?') { openHelp(); }
    else if (key === 'j') { step(1); }
    else if (key === 'k') { step(-1); }
    else { done = !!letters[key] && press(letters[key]); }
    if (done) { event.preventDefault(); }
  });
}());
