// Draws the slices and the two surfaces of an emhance report. The surfaces are NGL's; everything lies inside the page.
"use strict";
(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  const [nz, ny, nx] = data.shape;
  const n = { z: nz, y: ny, x: nx };
  const at = { z: nz >> 1, y: ny >> 1, x: nx >> 1 };

  function decode(map) {
    const text = atob(map.bytes);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    return bytes;
  }
  const maps = {};
  for (const [name, map] of Object.entries(data.maps)) maps[name] = { ...map, bytes: decode(map) };
  const valueOf = (map, byte) => map.low + (byte * (map.high - map.low)) / 255;

  // ---- slices: input, output (and confidence), one row each, moved by the same three sliders
  function indexer(axis) {
    if (axis === "z") return { w: nx, h: ny, of: (i, j) => (at.z * ny + j) * nx + i };
    if (axis === "y") return { w: nx, h: nz, of: (i, j) => (j * ny + at.y) * nx + i };
    return { w: ny, h: nz, of: (i, j) => (j * ny + i) * nx + at.x };
  }
  function drawSlice(canvas) {
    const map = maps[canvas.dataset.map];
    const { w, h, of } = indexer(canvas.dataset.axis);
    canvas.width = w;
    canvas.height = h;
    const context = canvas.getContext("2d");
    const image = context.createImageData(w, h);
    for (let j = 0; j < h; j++) {
      for (let i = 0; i < w; i++) {
        const value = valueOf(map, map.bytes[of(i, h - 1 - j)]);
        const grey = 255 * Math.min(Math.max((value - map.black) / (map.white - map.black), 0), 1);
        const k = 4 * (j * w + i);
        const colour = canvas.dataset.map === "confidence" ? confidenceColour(value) : [grey, grey, grey];
        for (let c = 0; c < 3; c++) image.data[k + c] = colour[c];
        image.data[k + 3] = 255;
      }
    }
    context.putImageData(image, 0, 0);
  }
  function confidenceColour(c) {
    const ends = c < 0.5 ? [[178, 24, 43], [247, 247, 247], c * 2] : [[247, 247, 247], [33, 102, 172], c * 2 - 1];
    return ends[0].map((low, i) => low + (ends[1][i] - low) * ends[2]);
  }
  const slices = [...document.querySelectorAll("canvas[data-map]")];
  const drawSlices = (axis) => slices.filter((s) => s.dataset.axis === axis).forEach(drawSlice);
  for (const axis of ["z", "y", "x"]) {
    const slider = document.getElementById("slice-" + axis);
    slider.max = n[axis] - 1;
    slider.value = at[axis];
    const say = () => {
      const full = Math.round(data.start["zyx".indexOf(axis)] + at[axis] * data.step["zyx".indexOf(axis)]);
      document.getElementById("slice-" + axis + "-value").textContent = axis + " = " + full;
      slider.setAttribute("aria-valuetext", axis + " = " + full + " voxels");
    };
    slider.addEventListener("input", () => {
      at[axis] = Number(slider.value);
      say();
      drawSlices(axis);
    });
    say();
    drawSlices(axis);
  }

  // ---- surfaces: input and output side by side, one camera
  const failed = document.getElementById("no-3d");
  const stages = {};
  const shapes = {};
  function volumeOf(name) {
    const map = maps[name];
    const values = new Float32Array(map.bytes.length);
    for (let i = 0; i < values.length; i++) values[i] = valueOf(map, map.bytes[i]);
    return new NGL.Volume(name, "", values, nx, ny, nz);
  }
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const background = () => (dark.matches ? "#16181c" : "#ffffff");
  const colourBox = document.getElementById("by-confidence");
  const confidence = maps.confidence ? volumeOf("confidence") : null;
  function look(name) {
    const level = { isolevelType: "value", isolevel: Number(document.getElementById("level-" + name).value) };
    if (colourBox && colourBox.checked && confidence) {
      const domain = { colorDomain: [0, 1], colorScale: ["#b2182b", "#f7f7f7", "#2166ac"], colorReverse: false };
      return { ...level, colorScheme: "volume", colorVolume: confidence, ...domain };
    }
    return { ...level, colorScheme: "uniform", colorValue: name === "input" ? "#b0b0b0" : "#6baed6" };
  }
  function surface(name) {
    const shape = shapes[name];
    if (shape.shown) shape.component.removeRepresentation(shape.shown);
    shape.shown = shape.component.addRepresentation("surface", {
      ...look(name), smooth: 0, contour: false, wireframe: false, opacity: 1, boxSize: 0, useWorker: false,
    });
  }
  let following = false;
  function follow(name) {
    if (following) return;
    following = true;
    // NGL reads the orientation from a matrix that it renews while drawing: without this, the other side lags one turn behind.
    stages[name].viewer.rotationGroup.updateMatrix();
    const orientation = stages[name].viewerControls.getOrientation();
    for (const other of Object.keys(stages)) if (other !== name) stages[other].viewerControls.orient(orientation);
    following = false;
  }
  try {
    for (const name of ["input", "output"]) {
      const place = document.getElementById("surface-" + name);
      if (!place) continue;
      const stage = new NGL.Stage(place, { backgroundColor: background(), quality: "medium", tooltip: false });
      stages[name] = stage;
      shapes[name] = { component: stage.addComponentFromObject(volumeOf(name)), shown: null };
      const slider = document.getElementById("level-" + name);
      const map = maps[name];
      slider.min = map.low + 0.02 * (map.high - map.low);
      slider.max = map.low + 0.8 * (map.high - map.low);
      slider.step = (map.high - map.low) / 500;
      slider.value = map.level;
      const say = () => {
        document.getElementById("level-" + name + "-value").textContent = Number(slider.value).toPrecision(3);
      };
      slider.addEventListener("input", say);
      slider.addEventListener("change", () => surface(name));
      say();
      surface(name);
    }
    // Surfaces are made in the background: the view is set when all are there, and followed from then on.
    let waiting = Object.keys(stages).length;
    for (const stage of Object.values(stages)) {
      stage.tasks.onZeroOnce(() => {
        waiting -= 1;
        if (waiting) return;
        stages.output.autoView(0);
        follow("output");
        for (const name of Object.keys(stages)) stages[name].viewerControls.signals.changed.add(() => follow(name));
        document.documentElement.dataset.ready = "3d";
      });
    }
    if (colourBox) colourBox.addEventListener("change", () => Object.keys(shapes).forEach(surface));
    dark.addEventListener("change", () => {
      for (const stage of Object.values(stages)) stage.setParameters({ backgroundColor: background() });
    });
    window.addEventListener("resize", () => Object.values(stages).forEach((stage) => stage.handleResize()));
    const turn = (axis, angle) => stages.output.viewerControls.spin(axis, angle);
    document.getElementById("turn-left").addEventListener("click", () => turn([0, 1, 0], -0.4));
    document.getElementById("turn-right").addEventListener("click", () => turn([0, 1, 0], 0.4));
    document.getElementById("turn-up").addEventListener("click", () => turn([1, 0, 0], -0.4));
    document.getElementById("nearer").addEventListener("click", () => stages.output.viewerControls.zoom(0.2));
    document.getElementById("farther").addEventListener("click", () => stages.output.viewerControls.zoom(-0.2));
  } catch (error) {
    failed.hidden = false;
    failed.textContent = "Surfaces cannot be drawn here: " + error.message;
    document.documentElement.dataset.ready = "2d";
  }
})();
