import { describe, expect, it, vi } from 'vitest'
import { createReadThrough } from '../../src/store/read-through.ts'

describe('a read-through memory', () => {
  it('reads once what is there, and every time what is not', async () => {
    const memory = createReadThrough<{ n: number }>(10)
    const load = vi.fn(async () => ({ n: 1 }))
    const nothing = vi.fn(async () => undefined)

    for (let count = 0; count < 3; count++) {
      expect(await memory.get('here', load)).toEqual({ n: 1 })
      expect(await memory.get('absent', nothing)).toBeUndefined()
    }

    expect(load).toHaveBeenCalledTimes(1)
    expect(nothing).toHaveBeenCalledTimes(3)
  })

  it.each([
    ['is gone', undefined, (memory: Memory) => memory.delete('key')],
    ['has a new value', { n: 2 }, (memory: Memory) => memory.set('key', { n: 2 })],
    ['went with others', undefined, (memory: Memory) => memory.deleteWhere(() => true)],
  ])('does not remember what was read before it %s', async (_how, after, change) => {
    const memory = createReadThrough<{ n: number }>(10)
    const slow = Promise.withResolvers<{ n: number }>()

    const reading = memory.get('key', () => slow.promise)
    change(memory)
    slow.resolve({ n: 1 })

    expect(await reading).toEqual({ n: 1 })
    expect(memory.peek('key')).toEqual(after)
  })

  it('remembers what was read while other things changed', async () => {
    const memory = createReadThrough<{ n: number }>(10)
    const slow = Promise.withResolvers<{ n: number }>()

    const reading = memory.get('key', () => slow.promise)
    memory.delete('other')
    slow.resolve({ n: 1 })
    await reading

    expect(memory.peek('key')).toEqual({ n: 1 })
  })

  it('holds no more than it may', async () => {
    const memory = createReadThrough<{ n: number }>(2)
    for (const n of [1, 2, 3]) await memory.get(String(n), async () => ({ n }))

    expect(memory.peek('1')).toBeUndefined()
    expect(memory.peek('3')).toEqual({ n: 3 })
  })
})

type Memory = ReturnType<typeof createReadThrough<{ n: number }>>
