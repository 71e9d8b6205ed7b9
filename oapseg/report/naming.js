(function () {
  "use strict";
  var form = document.getElementById("naming"), out = document.getElementById("names");
  var save = document.getElementById("save"), said = document.getElementById("said");
  var key = "oapseg names " + form.dataset.model, fields = form.querySelectorAll("input[name]");
  function show() {
    var names = {};
    fields.forEach(function (field) { if (field.value.trim()) { names[field.name] = field.value.trim(); } });
    out.value = JSON.stringify(names, null, 1);
    save.href = "data:application/json;charset=utf-8," + encodeURIComponent(out.value + "\n");
    said.textContent = Object.keys(names).length + " of " + fields.length + " named";
    return names;
  }
  function keep() { try { localStorage.setItem(key, JSON.stringify(show())); } catch (error) { show(); } }
  try {
    var kept = JSON.parse(localStorage.getItem(key) || "{}");
    fields.forEach(function (field) { if (kept[field.name]) { field.value = kept[field.name]; } });
  } catch (error) { /* a page opened from a file may have no storage */ }
  form.addEventListener("input", keep);
  form.addEventListener("submit", function (event) { event.preventDefault(); });
  document.getElementById("copy").addEventListener("click", function () {
    out.select();
    if (navigator.clipboard) { navigator.clipboard.writeText(out.value); } else { document.execCommand("copy"); }
    said.textContent = "copied";
  });
  show();
})();
