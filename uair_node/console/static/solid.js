// Liver and lesions as a solid that can be turned: three.js over the surfaces that the server draws.
// Positions are the patient's (DICOM: +x left, +y posterior, +z superior), in mm.

const TURN = Math.PI / 18;
const ZOOM = 1.15;
const STEEPEST = 1.5;
const GLIDE_MS = 350;
const VIEWS = { front: [0, 0], right: [90, 0], back: [180, 0], left: [270, 0], above: [0, 86] };
const SIDES = ["the front", "the front and right", "the right", "the back and right", "the back",
  "the back and left", "the left", "the front and left"];
const OUTLINE = 0xffffff;
const BEHIND = 2 ** 15; // of the 2 ** 24 steps of depth: some millimetres
// The liver is clear where it faces the viewer and dense at its edges: lesions keep their colours.
const GLASS = "diffuseColor.a = mix(0.22, 0.95, pow(1.0 - abs(normal.z), 1.7));\n#include <opaque_fragment>";

export function showSolid(stage, parts) {
  const canvas = document.createElement("canvas");
  if (!canvas.getContext("webgl2")) {
    parts.status.textContent = "A still picture, from the front: this browser has no WebGL.";
    return { show: (address) => showStill(stage, address), cut() {} };
  }
  const ready = import("./three.module.min.js").then((three) => new Solid(three, stage, canvas, parts));
  return {
    show: (address, name) => ready.then((solid) => solid.show(address, name)),
    cut: (slice) => ready.then((solid) => solid.cut(slice)),
  };
}

function showStill(stage, address) {
  stage.querySelector("img").src = address.replace("surfaces.glb", "solid.jpg");
}

class Solid {
  constructor(three, stage, canvas, parts) {
    this.three = three;
    this.stage = stage;
    this.parts = parts;
    this.angles = [0, 0];
    this.zoom = 1;
    this.wanted = "";
    this.meshes = new Map();
    this.hidden = new Set();
    this.renderer = new three.WebGLRenderer({ canvas, antialias: true });
    this.renderer.setPixelRatio(Math.min(window.devicePixelRatio, 2));
    this.scene = new three.Scene();
    this.camera = new three.OrthographicCamera();
    this.camera.up.set(0, 0, 1);
    const lamp = new three.DirectionalLight(OUTLINE, 2.6);
    lamp.position.set(-0.6, 0.8, 1);
    this.camera.add(lamp);
    this.scene.add(this.camera, new three.HemisphereLight(OUTLINE, 0x404040, 1.2));
    this.outline = new three.LineLoop(new three.BufferGeometry(), new three.LineBasicMaterial({ color: OUTLINE }));
    this.scene.add(this.outline);
    this.marks = ["left", "right"].map((side) => this.note(`side ${side}`));
    this.listen(canvas);
  }

  note(kind, text = "") {
    const mark = document.createElement("span");
    mark.className = kind;
    mark.textContent = text;
    mark.setAttribute("aria-hidden", "true");
    return mark;
  }

  listen(canvas) {
    this.stage.addEventListener("keydown", (event) => this.press(event));
    let from = null;
    canvas.addEventListener("pointerdown", (event) => {
      from = event;
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!from) return;
      this.turn((event.clientX - from.clientX) / 120, (event.clientY - from.clientY) / 120);
      from = event;
    });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { from = null; });
    canvas.addEventListener("wheel", (event) => {
      if (document.activeElement !== this.stage) return;
      event.preventDefault();
      this.near(event.deltaY < 0 ? ZOOM : 1 / ZOOM);
    }, { passive: false });
    this.parts.buttons.hidden = false;
    this.parts.buttons.addEventListener("click", ({ target }) => {
      if (target.dataset.view) this.lookFrom(...VIEWS[target.dataset.view]);
      if (target.dataset.zoom) this.near(target.dataset.zoom === "in" ? ZOOM : 1 / ZOOM);
    });
    for (const box of this.parts.boxes) {
      box.disabled = false;
      box.addEventListener("change", () => {
        if (box.checked) this.hidden.delete(Number(box.dataset.value));
        else this.hidden.add(Number(box.dataset.value));
        this.draw();
      });
    }
    new ResizeObserver(() => this.draw()).observe(this.stage);
  }

  press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const turns = { ArrowLeft: [-TURN, 0], ArrowRight: [TURN, 0], ArrowUp: [0, -TURN], ArrowDown: [0, TURN] };
    if (turns[event.key]) this.turn(...turns[event.key]);
    else if (event.key === "+" || event.key === "=") this.near(ZOOM);
    else if (event.key === "-") this.near(1 / ZOOM);
    else if (event.key === "Home") this.lookFrom(...VIEWS.front);
    else return;
    event.preventDefault();
  }

  turn(across, up) {
    const steep = Math.max(-STEEPEST, Math.min(STEEPEST, this.angles[1] + up));
    this.angles = [this.angles[0] + across, steep];
    this.draw();
  }

  near(factor) {
    this.zoom = Math.max(0.5, Math.min(12, this.zoom * factor));
    this.draw();
  }

  lookFrom(...degrees) {
    const whole = 2 * Math.PI;
    const from = this.angles.map((angle, n) => (n ? angle : ((angle % whole) + whole) % whole));
    const to = degrees.map((angle) => (angle * Math.PI) / 180);
    if (to[0] - from[0] > Math.PI) to[0] -= whole;
    if (from[0] - to[0] > Math.PI) to[0] += whole;
    this.zoom = 1;
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const start = performance.now();
    const glide = (now) => {
      const part = still ? 1 : Math.min(1, Math.max(0, now - start) / GLIDE_MS);
      this.angles = from.map((angle, n) => angle + (to[n] - angle) * part);
      this.draw();
      if (part < 1) requestAnimationFrame(glide);
    };
    glide(start);
  }

  // Another segmentation; the view stays, so that two can be compared.
  async show(address, name) {
    this.wanted = address;
    if (!this.meshes.has(address)) {
      this.parts.status.textContent = `Drawing ${name} …`;
      try {
        const answer = await fetch(address);
        if (!answer.ok) throw new Error(answer.statusText);
        this.meshes.set(address, this.meshesOf(await answer.arrayBuffer()));
      } catch {
        this.parts.status.textContent = "The surfaces cannot be had; reload the page to try again.";
        return;
      }
    }
    if (this.wanted !== address) return;
    this.scene.remove(...(this.shown ?? []).map((one) => one.mesh));
    this.shown = this.meshes.get(address);
    this.scene.add(...this.shown.map((one) => one.mesh));
    this.stage.setAttribute("aria-label", `Liver and lesions of ${name} as a solid`);
    this.stage.replaceChildren(this.renderer.domElement, ...this.shown.map((one) => one.mark), ...this.marks);
    this.sphere ??= this.shown[0]?.mesh.geometry.boundingSphere ?? new this.three.Sphere();
    this.draw();
  }

  // Binary glTF 2.0, as `uair_node.rendering.export_formats` writes it.
  meshesOf(buffer) {
    const { three } = this;
    const length = new DataView(buffer).getUint32(12, true);
    const gltf = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 20, length)));
    const array = (number, Kind) => {
      const view = gltf.bufferViews[gltf.accessors[number].bufferView];
      return new Kind(buffer, 28 + length + view.byteOffset, view.byteLength / Kind.BYTES_PER_ELEMENT);
    };
    return gltf.nodes.filter((node) => node.mesh !== undefined).map((node) => {
      const primitive = gltf.meshes[node.mesh].primitives[0];
      const geometry = new three.BufferGeometry();
      geometry.setAttribute("position", new three.BufferAttribute(array(primitive.attributes.POSITION, Float32Array), 3));
      geometry.setIndex(new three.BufferAttribute(array(primitive.indices, Uint32Array), 1));
      geometry.computeVertexNormals();
      geometry.computeBoundingSphere();
      const [red, green, blue, opacity] = gltf.materials[primitive.material].pbrMetallicRoughness.baseColorFactor;
      const material = new three.MeshPhongMaterial({ shininess: 20, transparent: opacity < 1 });
      material.color.setRGB(red, green, blue, three.LinearSRGBColorSpace);
      const mesh = new three.Mesh(geometry, material);
      if (opacity < 1) this.makeGlass(mesh);
      const number = opacity < 1 ? "" : String(node.extras.label - 1);
      return { mesh, value: node.extras.label, mark: this.note("number", number) };
    });
  }

  // Drawn after what it holds, its nearest surface only: the depth is written first, by a twin without colour.
  makeGlass(mesh) {
    const { three } = this;
    mesh.material.onBeforeCompile = (shader) => {
      shader.fragmentShader = shader.fragmentShader.replace("#include <opaque_fragment>", GLASS);
    };
    const twin = new three.Mesh(mesh.geometry, new three.MeshBasicMaterial({ colorWrite: false, transparent: true }));
    // Behind lesions that lie at the capsule, whose surface is drawn finer.
    for (const one of [mesh, twin]) Object.assign(one.material, { polygonOffset: true, polygonOffsetUnits: BEHIND });
    mesh.renderOrder = 2;
    twin.renderOrder = 1;
    mesh.add(twin);
  }

  // Where the slice that is shown lies.
  cut(slice) {
    const { corners, step } = this.parts.plane;
    this.outline.geometry.setFromPoints(corners.map((corner) =>
      new this.three.Vector3(...corner.map((value, axis) => value + slice * step[axis]))));
    this.draw();
  }

  draw() {
    if (this.due || !this.shown) return;
    this.due = requestAnimationFrame(() => {
      this.due = 0;
      const { clientWidth: width, clientHeight: height } = this.stage;
      if (!width || !height) return;
      this.aim(width, height);
      for (const one of this.shown) one.mesh.visible = !this.hidden.has(one.value);
      this.renderer.setSize(width, height, false);
      this.renderer.render(this.scene, this.camera);
      this.write(width, height);
    });
  }

  aim(width, height) {
    const [across, up] = this.angles;
    const { center, radius } = this.sphere;
    const towards = [-Math.sin(across) * Math.cos(up), -Math.cos(across) * Math.cos(up), Math.sin(up)];
    this.camera.position.copy(center).addScaledVector(new this.three.Vector3(...towards), 4 * radius);
    this.camera.lookAt(center);
    const reach = 0.9 * radius * Math.max(1, height / width);
    Object.assign(this.camera, { left: (-reach * width) / height, right: (reach * width) / height, top: reach,
      bottom: -reach, near: 0.1, far: 8 * radius, zoom: this.zoom });
    this.camera.updateProjectionMatrix();
    this.camera.updateMatrixWorld();
  }

  // Numbers at the lesions, sides at the edges, the view in words.
  write(width, height) {
    for (const { mesh, mark } of this.shown) {
      const at = mesh.geometry.boundingSphere.center.clone().project(this.camera);
      mark.hidden = !mesh.visible || !mark.textContent;
      mark.style.left = `${((at.x + 1) / 2) * width}px`;
      mark.style.top = `${((1 - at.y) / 2) * height}px`;
    }
    const [across, up] = this.angles;
    const right = [Math.cos(across), -Math.sin(across)];
    const letters = (sign) => [[right[0] * sign, "L", "R"], [right[1] * sign, "P", "A"]]
      .filter(([size]) => Math.abs(size) > 0.38).sort((a, b) => Math.abs(b[0]) - Math.abs(a[0]))
      .map(([size, positive, negative]) => (size > 0 ? positive : negative)).join("");
    [this.marks[0].textContent, this.marks[1].textContent] = [letters(-1), letters(1)];
    const eighth = ((Math.round((across * 4) / Math.PI) % 8) + 8) % 8;
    const steep = Math.round((up * 180) / Math.PI);
    const slope = steep ? `, ${Math.abs(steep)}° from ${steep > 0 ? "above" : "below"}` : "";
    this.parts.status.textContent = `Seen from ${SIDES[eighth]}${slope}.`;
  }
}
