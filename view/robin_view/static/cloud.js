// The recorded frame as points, with the tool where it was to stand.

import * as THREE from "./vendor/three.min.js";
import { ask, say } from "./page.js";

const box = document.getElementById("cloud");
const base = `/d/${box.dataset.decision}/cloud`;
const BYTES = 3 * 4 + 2 + 3; // of a point: place, parcel, colour
const MIXED = 0.65; // share of the parcel's colour
const LIFT_M = 0.002; // cups are drawn a little above the skin they touch

start().catch((error) => {
  document.getElementById("told").textContent = "it cannot be drawn here";
  say(String(error.message ?? error));
});

async function start() {
  const [scene, reply] = await Promise.all([ask(`${base}/scene`), fetch(`${base}/points`)]);
  if (!reply.ok) throw new Error(await reply.text());
  const cloud = unpacked(await reply.arrayBuffer());
  const renderer = new THREE.WebGLRenderer({ antialias: true });
  renderer.setPixelRatio(Math.min(window.devicePixelRatio, 2));
  box.append(renderer.domElement);
  const world = new THREE.Scene();
  const camera = new THREE.PerspectiveCamera(50, 1, 0.01, 20);
  camera.up.set(0, 0, 1);
  const controls = new THREE.OrbitControls(camera, renderer.domElement);
  const middle = middleOf(cloud.places);
  world.background = new THREE.Color(0x11161c);
  const grid = new THREE.GridHelper(2, 20, 0x46525f, 0x2c3641);
  grid.rotateX(Math.PI / 2);
  grid.position.set(middle.x, middle.y, 0);
  world.add(grid, new THREE.AxesHelper(0.2));
  const points = pointsOf(cloud, scene);
  world.add(points.object);
  let tool = new THREE.Group();
  world.add(tool);

  const draw = () => renderer.render(world, camera);
  controls.addEventListener("change", draw);
  const look = (x, y, z) => {
    camera.position.set(x, y, z);
    controls.target.copy(middle);
    controls.update();
    draw();
  };
  const views = {
    camera: () => look(...scene.camera),
    side: () => look(middle.x - 1.0, middle.y - 0.6, middle.z + 0.5),
    top: () => look(middle.x - 0.001, middle.y, middle.z + 1.2),
  };
  const stand = (number) => {
    world.remove(tool);
    tool = toolOf(scene, scene.grasps[number]);
    tool.visible = pressed("tool");
    world.add(tool);
    draw();
  };
  for (const button of document.querySelectorAll("[data-view]")) button.addEventListener("click", views[button.dataset.view]);
  for (const button of document.querySelectorAll("[data-draw]")) {
    button.addEventListener("click", () => {
      button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") !== "true");
      points.colour(pressed("parcels"));
      tool.visible = pressed("tool");
      draw();
    });
  }
  const size = document.getElementById("size");
  size.addEventListener("input", () => {
    points.object.material.size = size.value / 1000;
    draw();
  });
  const grasp = document.getElementById("grasp");
  grasp.addEventListener("change", () => stand(Number(grasp.value)));
  new ResizeObserver(() => {
    renderer.setSize(box.clientWidth, box.clientHeight);
    camera.aspect = box.clientWidth / box.clientHeight;
    camera.updateProjectionMatrix();
    draw();
  }).observe(box);
  points.colour(true);
  if (scene.grasps.length) stand(Number(grasp.value));
  views.side();
  document.getElementById("told").textContent = `${cloud.count.toLocaleString("en")} points, ${scene.parcels.length} parcels`;
}

function pressed(name) {
  return document.querySelector(`[data-draw="${name}"]`).getAttribute("aria-pressed") === "true";
}

/** Places float32, parcels uint16, colours uint8, one after another. */
function unpacked(data) {
  const count = data.byteLength / BYTES;
  return {
    count,
    places: new Float32Array(data, 0, 3 * count),
    parcels: new Uint16Array(data, 12 * count, count),
    colours: new Uint8Array(data, 14 * count, 3 * count),
  };
}

function middleOf(places) {
  const sum = new THREE.Vector3();
  const count = places.length / 3;
  for (let i = 0; i < count; i++) sum.add(new THREE.Vector3(places[3 * i], places[3 * i + 1], places[3 * i + 2]));
  return sum.divideScalar(Math.max(count, 1));
}

function pointsOf(cloud, scene) {
  const shown = new Uint8Array(cloud.colours.length);
  const geometry = new THREE.BufferGeometry();
  geometry.setAttribute("position", new THREE.BufferAttribute(cloud.places, 3));
  geometry.setAttribute("color", new THREE.BufferAttribute(shown, 3, true));
  const known = new Map(scene.parcels.map((parcel) => [parcel.id, parcel.colour]));
  const object = new THREE.Points(geometry, new THREE.PointsMaterial({ size: 0.003, vertexColors: true }));
  const colour = (byParcel) => {
    for (let i = 0; i < cloud.count; i++) {
      const tint = byParcel ? known.get(cloud.parcels[i]) : undefined;
      for (let k = 0; k < 3; k++) {
        const own = cloud.colours[3 * i + k];
        shown[3 * i + k] = tint ? (1 - MIXED) * own + MIXED * tint[k] : own;
      }
    }
    geometry.attributes.color.needsUpdate = true;
  };
  return { object, colour };
}

/** Plate and cups at a grasp; open cups filled. The tool's z points out of the cups. */
function toolOf(scene, grasp) {
  const { cups, radius, half_size: half } = scene.tool;
  const tool = new THREE.Group();
  const plate = new THREE.EdgesGeometry(new THREE.PlaneGeometry(2 * half[0], 2 * half[1]));
  tool.add(new THREE.LineSegments(plate, new THREE.LineBasicMaterial({ color: 0xffffff })));
  cups.forEach(([x, y], number) => {
    const open = grasp.cups.includes(number);
    const look = open ? { color: 0x1f6feb } : { color: 0xa3afbb, transparent: true, opacity: 0.35 };
    const cup = new THREE.Mesh(new THREE.CircleGeometry(radius, 32), new THREE.MeshBasicMaterial({ ...look, side: THREE.DoubleSide }));
    cup.position.set(x, y, -LIFT_M);
    tool.add(cup);
  });
  tool.position.set(...grasp.position);
  tool.quaternion.set(...grasp.quaternion);
  return tool;
}
