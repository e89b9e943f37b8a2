/** The set that stands for a whole catalog when something is called gone. */
import { describe, expect, it } from 'vitest'
import { createNameSet } from '../../replicator/name-set.ts'

describe('a set of names', () => {
  it('has what was added in any order, and nothing else', () => {
    const set = createNameSet()
    const names = Array.from({ length: 50_000 }, (_, at) => `group-${at % 97}/project-${at}`)
    for (let at = 0; at < names.length; at += 1000) set.add(names.slice(at, at + 1000))

    expect(set.size).toBe(50_000)
    expect(names.filter((name) => !set.has(name))).toEqual([])
    expect(names.filter((name) => set.has(`${name}x`))).toEqual([])
  })

  it('takes more after it was asked', () => {
    const set = createNameSet()
    expect(set.has('team/app')).toBe(false)
    set.add(['team/b'])
    expect(set.has('team/app')).toBe(false)
    set.add(['team/app', 'a'])

    expect(['team/app', 'team/b', 'a', 'b'].map((name) => set.has(name))).toEqual([true, true, true, false])
  })
})
