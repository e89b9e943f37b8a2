/** Laying overrides over a configuration. */
export type Tree = { readonly [key: string]: unknown }

/** Objects are merged key by key, anything else is replaced; `undefined` takes a key out. */
export function deepMerge(base: Tree, over: Tree): Tree {
  const merged: Record<string, unknown> = { ...base }
  for (const [key, value] of Object.entries(over)) {
    const below = merged[key]
    if (value === undefined) delete merged[key]
    else merged[key] = isTree(below) && isTree(value) ? deepMerge(below, value) : value
  }
  return merged
}

function isTree(value: unknown): value is Tree {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
