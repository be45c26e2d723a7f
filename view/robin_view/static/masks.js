// Masks as run lengths the way COCO writes them: column by column, counts of off and on in turn, as short text.

/** Counts of one mask. */
export function countsOf(text) {
  const counts = [];
  for (let at = 0; at < text.length; ) {
    let value = 0;
    let shift = 0;
    let more = true;
    while (more) {
      const letter = text.charCodeAt(at++) - 48;
      value |= (letter & 0x1f) << (5 * shift++);
      more = (letter & 0x20) !== 0;
      if (!more && letter & 0x10) value |= -1 << (5 * shift);
    }
    if (counts.length > 2) value += counts[counts.length - 2];
    counts.push(value);
  }
  return counts;
}

/** Text of counts; the other way round. */
export function textOf(counts) {
  let text = "";
  counts.forEach((count, index) => {
    let left = index > 2 ? count - counts[index - 2] : count;
    let more = true;
    while (more) {
      const bits = left & 0x1f;
      left >>= 5;
      more = bits & 0x10 ? left !== -1 : left !== 0;
      text += String.fromCharCode(48 + (bits | (more ? 0x20 : 0)));
    }
  });
  return text;
}

/** Uint16Array of height * width, row by row, 0 background. masks: {height, width, counts: {id: text}}. */
export function labelsOf({ height, width, counts }) {
  const labels = new Uint16Array(height * width);
  for (const [id, text] of Object.entries(counts)) {
    let place = 0;
    countsOf(text).forEach((count, index) => {
      if (index % 2) {
        for (let at = place; at < place + count; at++) labels[(at % height) * width + Math.floor(at / height)] = +id;
      }
      place += count;
    });
  }
  return labels;
}

/** {height, width, counts} of labels, row by row. */
export function codedMasks(labels, height, width) {
  const runs = new Map();
  let before = 0;
  let begun = 0;
  const close = (id, start, end) => {
    if (!id) return;
    if (!runs.has(id)) runs.set(id, []);
    runs.get(id).push([start, end]);
  };
  for (let place = 0; place <= height * width; place++) {
    const id = place < height * width ? labels[(place % height) * width + Math.floor(place / height)] : 0;
    if (id !== before) {
      close(before, begun, place);
      before = id;
      begun = place;
    }
  }
  const counts = {};
  for (const [id, spans] of runs) {
    const list = [];
    let end = 0;
    for (const [from, to] of spans) {
      list.push(from - end, to - from);
      end = to;
    }
    if (end < height * width) list.push(height * width - end);
    counts[id] = textOf(list);
  }
  return { height, width, counts };
}
