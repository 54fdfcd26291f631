// The theme, before the first paint: a choice kept in this browser, else the system's.
(function () {
  'use strict';
  var root = document.documentElement;
  function kept() { try { return localStorage.getItem('theme'); } catch (error) { return null; } }
  function keep(value) { try { localStorage.setItem('theme', value); } catch (error) { /* private mode */ } }
  var choice = kept();
  if (choice === 'light' || choice === 'dark') { root.dataset.theme = choice; }
  document.addEventListener('click', function (event) {
    if (!event.target.closest('[data-theme-toggle]')) { return; }
    var dark = root.dataset.theme === 'dark' ||
      (root.dataset.theme === 'auto' && matchMedia('(prefers-color-scheme: dark)').matches);
    root.dataset.theme = dark ? 'light' : 'dark';
    keep(root.dataset.theme);
  });
}());
