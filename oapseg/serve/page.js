(function () {
  "use strict";
  var SIDE_PX = 768; // of the masks that the page asks for: finer than any screen shows them
  var PALETTE = [[230, 159, 0], [86, 180, 233], [0, 158, 115], [240, 228, 66], [213, 94, 0], [0, 114, 178],
    [204, 121, 167], [136, 34, 85], [153, 204, 51], [170, 170, 255]];
  var FILL = 110, EDGE = 245; // opacity inside a mask and on its edge, of 255
  var asked = new URLSearchParams(location.search);
  function at(id) { return document.getElementById(id); }
  var canvas = at("masks"), photo = at("photo"), stage = at("stage"), list = at("list"), tip = at("tip");
  var level = at("level"), score = at("score"), all = at("all");
  var found = [], shown = [], size = [1, 1], lit = null, pinned = null, running = null;

  function state(name, line) { document.body.dataset.state = name; at("status").textContent = line; }

  // COCO's compressed run lengths, column by column, to a byte a pixel, row by row.
  function bitmap(mask) {
    if (mask.bits) { return mask.bits; }
    var text = mask.segmentation.counts, height = size[0], width = size[1], runs = [], place = 0;
    while (place < text.length) {
      var value = 0, shift = 0, more = true, code = 0;
      while (more) {
        code = text.charCodeAt(place) - 48;
        value |= (code & 31) << shift;
        more = (code & 32) !== 0;
        place += 1;
        shift += 5;
        if (!more && (code & 16)) { value |= -1 << shift; }
      }
      runs.push(runs.length > 2 ? value + runs[runs.length - 2] : value);
    }
    var bits = new Uint8Array(height * width), pixel = 0;
    runs.forEach(function (length, number) {
      if (number % 2) {
        for (var each = pixel; each < pixel + length; each += 1) {
          bits[(each % height) * width + Math.floor(each / height)] = 1;
        }
      }
      pixel += length;
    });
    mask.bits = bits;
    return bits;
  }

  function visible(mask) {
    if (mask.score < Number(score.value)) { return false; }
    if (all.checked) { return true; }
    var here = Number(level.value);
    return mask.levels !== null && mask.levels[0] <= here && (mask.levels[1] === null || here < mask.levels[1]);
  }

  function label(mask) { return mask.name || "cluster " + mask.cluster; }

  function draw() {
    var height = size[0], width = size[1], context = canvas.getContext("2d");
    var picture = context.createImageData(width, height), data = picture.data, only = pinned || lit;
    shown.slice().sort(function (a, b) { return b.area - a.area; }).forEach(function (mask) {
      var bits = bitmap(mask), fill = only && only !== mask ? FILL / 4 : FILL, edge = only && only !== mask ? EDGE / 3 : EDGE;
      for (var y = 0, pixel = 0; y < height; y += 1) {
        for (var x = 0; x < width; x += 1, pixel += 1) {
          if (!bits[pixel]) { continue; }
          var inner = (x === 0 || bits[pixel - 1]) && (x === width - 1 || bits[pixel + 1]) &&
            (y === 0 || bits[pixel - width]) && (y === height - 1 || bits[pixel + width]);
          data[4 * pixel] = mask.colour[0];
          data[4 * pixel + 1] = mask.colour[1];
          data[4 * pixel + 2] = mask.colour[2];
          data[4 * pixel + 3] = inner ? fill : edge;
        }
      }
    });
    context.putImageData(picture, 0, 0);
  }

  function dot(colour) {
    var space = "http://www.w3.org/2000/svg", svg = document.createElementNS(space, "svg");
    var circle = document.createElementNS(space, "circle");
    svg.setAttribute("viewBox", "0 0 10 10");
    svg.setAttribute("aria-hidden", "true");
    circle.setAttribute("cx", "5"); circle.setAttribute("cy", "5"); circle.setAttribute("r", "5");
    circle.setAttribute("fill", "rgb(" + colour.join(",") + ")");
    svg.appendChild(circle);
    return svg;
  }

  function row(mask) {
    var item = document.createElement("li"), button = document.createElement("button");
    var name = document.createElement("span"), number = document.createElement("small");
    name.textContent = label(mask);
    number.textContent = mask.score.toFixed(2);
    button.type = "button";
    button.append(dot(mask.colour), name, number);
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", function () { pin(pinned === mask ? null : mask); });
    button.addEventListener("pointerenter", function () { light(mask); });
    button.addEventListener("pointerleave", function () { light(null); });
    mask.button = button;
    item.appendChild(button);
    return item;
  }

  function update() {
    at("level-said").textContent = all.checked ? "all" : Number(level.value).toFixed(2);
    at("score-said").textContent = Number(score.value).toFixed(2);
    level.disabled = all.checked;
    if (document.body.dataset.state !== "done") { return; }
    shown = found.filter(visible);
    if (shown.indexOf(pinned) < 0) { pinned = null; }
    lit = null;
    tip.hidden = !pinned;
    list.replaceChildren.apply(list, shown.map(row));
    mark();
    at("status").textContent = shown.length + (shown.length === 1 ? " mask" : " masks") + " of " + found.length + " found" +
      (shown.length ? "" : "; lower the score or try another level");
    draw();
  }

  function mark() {
    shown.forEach(function (mask) {
      mask.button.classList.toggle("lit", mask === lit);
      mask.button.setAttribute("aria-pressed", String(mask === pinned));
    });
  }

  function light(mask) {
    if (mask === lit) { return; }
    lit = mask;
    mark();
    draw();
  }

  function pin(mask) {
    pinned = mask;
    if (!mask) { tip.hidden = true; }
    mark();
    draw();
  }

  // The smallest mask shown at a place of the pointer: small ones lie on top.
  function under(event) {
    var box = canvas.getBoundingClientRect();
    var x = Math.floor((event.clientX - box.left) / box.width * size[1]);
    var y = Math.floor((event.clientY - box.top) / box.height * size[0]);
    var pixel = y * size[1] + x, best = null;
    if (x < 0 || y < 0 || x >= size[1] || y >= size[0]) { return null; }
    shown.forEach(function (mask) { if (bitmap(mask)[pixel] && (!best || mask.area < best.area)) { best = mask; } });
    return best;
  }

  function say(mask, event) {
    tip.hidden = !mask;
    if (!mask) { return; }
    var box = canvas.getBoundingClientRect();
    tip.textContent = label(mask) + ", score " + mask.score.toFixed(2);
    tip.style.left = Math.max(4, Math.min(event.clientX - box.left + 12, box.width - tip.offsetWidth - 8)) + "px";
    tip.style.top = Math.max(4, event.clientY - box.top - tip.offsetHeight - 10) + "px";
  }

  function ask(blob, address) {
    if (running) { running.abort(); }
    var mine = running = new AbortController();
    found = []; shown = []; pinned = lit = null;
    list.replaceChildren();
    tip.hidden = true;
    at("empty").hidden = true;
    at("working").hidden = false;
    at("fit").hidden = false;
    canvas.hidden = true;
    photo.src = address;
    state("busy", "Looking at the photo.");
    fetch("v1/masks?min_score=0&side_px=" + SIDE_PX, { method: "POST", body: blob, signal: mine.signal })
      .then(function (answer) { return answer.json().then(function (said) { return [answer.ok, said]; }); })
      .then(function (pair) {
        if (mine !== running) { return; }
        if (!pair[0]) { throw new Error(pair[1].error); }
        found = pair[1].masks;
        size = pair[1].size;
        found.forEach(function (mask, number) { mask.colour = PALETTE[number % PALETTE.length]; });
        fit(size[1] / size[0]);
        canvas.height = size[0];
        canvas.width = size[1];
        canvas.hidden = false;
        state("done", "");
        update();
      })
      .catch(function (error) {
        if (mine !== running) { return; }
        if (!photo.naturalWidth) { at("fit").hidden = true; at("empty").hidden = false; }  // there is nothing to see
        state("error", error.message || "The server cannot be reached.");
      })
      .finally(function () { if (mine === running) { at("working").hidden = true; } });
  }

  function fit(aspect) { at("fit").style.setProperty("--aspect", String(aspect)); }

  function take(file) {
    if (!file) { return; }
    press(0);
    ask(file, URL.createObjectURL(file));
  }

  function press(number) {
    Array.prototype.forEach.call(at("samples").children, function (button, place) {
      button.setAttribute("aria-pressed", String(place + 1 === number));
    });
  }

  function sample(number) {
    var address = "sample/" + number + ".jpg";
    press(number);
    fetch(address).then(function (answer) { return answer.blob(); }).then(function (blob) { ask(blob, address); });
  }

  photo.addEventListener("load", function () { fit(photo.naturalWidth / photo.naturalHeight); });
  photo.addEventListener("error", function () { photo.alt = "this browser cannot show the photo; its masks it can"; });
  at("file").addEventListener("change", function (event) { take(event.target.files[0]); event.target.value = ""; });
  [level, score, all].forEach(function (each) { each.addEventListener("input", update); });
  canvas.addEventListener("pointermove", function (event) {
    if (pinned) { return; }
    var mask = under(event);
    light(mask);
    say(mask, event);
  });
  canvas.addEventListener("pointerleave", function () { light(null); if (!pinned) { tip.hidden = true; } });
  canvas.addEventListener("click", function (event) {
    var mask = under(event);
    pin(mask === pinned ? null : mask);
    say(pinned, event);
  });
  document.addEventListener("keydown", function (event) { if (event.key === "Escape") { pin(null); } });
  document.addEventListener("dragover", function (event) { event.preventDefault(); stage.classList.add("over"); });
  document.addEventListener("dragleave", function () { stage.classList.remove("over"); });
  document.addEventListener("drop", function (event) {
    event.preventDefault();
    stage.classList.remove("over");
    take(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", function (event) { take(event.clipboardData.files[0]); });

  [1, 2, 3, 4, 5, 6].forEach(function (number) {
    var button = document.createElement("button"), picture = document.createElement("img");
    button.type = "button";
    button.title = "drawn photo " + number;
    button.setAttribute("aria-pressed", "false");
    picture.src = "sample/" + number + ".jpg";
    picture.alt = "drawn photo " + number;
    button.appendChild(picture);
    button.addEventListener("click", function () { sample(number); });
    at("samples").appendChild(button);
  });
  fetch("v1/model").then(function (answer) { return answer.json(); }).then(function (model) {
    at("model").textContent = model.name + (model.version ? ", version " + model.version : "") + ", " +
      model.sha256.slice(0, 12);
  }).catch(function () { at("model").textContent = ""; });
  if (asked.has("level")) { level.value = asked.get("level"); }
  if (asked.has("score")) { score.value = asked.get("score"); }
  all.checked = asked.has("all");
  update();
  if (asked.has("sample")) { sample(Number(asked.get("sample"))); }
})();
