/** The oracle of the model test can say no. */
import { describe, expect, it } from 'vitest'
import { createHistory, type Via, type Write } from './model-history.ts'

function story() {
  const history = createHistory()
  let now = 0
  const write = (kind: Write['kind'], digest: string, via: Via = 'primary') =>
    history.begin({ kind, digest, via, start: ++now })
  return {
    history,
    write,
    done: (...args: Parameters<typeof write>) => write(...args).settle('acknowledged', ++now),
    read: (value: string | undefined) => history.learn({ value, start: ++now, end: ++now }),
    span: () => ({ start: ++now, end: ++now }),
    tick: () => ++now,
  }
}

describe('the value of a tag', () => {
  it('is the last one acknowledged, and none before the first', () => {
    const { history, done, span } = story()
    expect([history.mayBe(undefined, span()), history.mayBe('a', span())]).toEqual([true, false])
    done('put', 'a')
    done('put', 'b')

    expect(['a', 'b', undefined].map((value) => history.mayBe(value, span()))).toEqual([false, true, false])
  })

  it('is either of two while a write is on its way, and for good when its answer is lost', () => {
    const { history, done, write, span, tick } = story()
    done('put', 'a')
    const lost = write('put', 'b')
    expect(['a', 'b'].map((value) => history.mayBe(value, span()))).toEqual([true, true])
    lost.settle('lost', tick())
    expect(['a', 'b'].map((value) => history.mayBe(value, span()))).toEqual([true, true])
    done('put', 'c')

    expect(['a', 'b', 'c'].map((value) => history.mayBe(value, span()))).toEqual([false, true, true])
  })

  it('is not what was refused', () => {
    const { history, write, span, tick } = story()
    write('put', 'a').settle('refused', tick())

    expect([history.mayBe('a', span()), history.mayBe(undefined, span())]).toEqual([false, true])
  })

  it('goes with its digest, and stays when another digest is deleted', () => {
    const { history, done, span } = story()
    done('put', 'a')
    done('delete', 'b')
    expect([history.mayBe('a', span()), history.mayBe(undefined, span())]).toEqual([true, false])
    done('delete', 'a')

    expect([history.mayBe('a', span()), history.mayBe(undefined, span())]).toEqual([false, true])
    expect(history.mayBe('a', span(), { bySiteOnly: true })).toBe(true)
    done('delete', 'a', 'site')
    expect(history.mayBe('a', span(), { bySiteOnly: true })).toBe(false)
  })
})

describe('a stale value', () => {
  it('was confirmed once, and nothing newer was heard through the site', () => {
    const { history, done, read, span } = story()
    done('put', 'a')
    expect(history.mayBeStale('a', span())).toBe(false)
    read('a')
    done('put', 'b')
    expect(['a', 'b'].map((value) => history.mayBeStale(value, span()))).toEqual([true, false])
    expect(history.heldFor(span())).toBe('a')
    read('b')

    expect(['a', 'b'].map((value) => history.mayBeStale(value, span()))).toEqual([false, true])
  })

  it('is not one that was deleted or overwritten through the site', () => {
    const { history, done, read, span } = story()
    done('put', 'a', 'site')
    expect([history.mayBeStale('a', span()), history.heldFor(span())]).toEqual([true, 'a'])
    done('put', 'b', 'site')
    expect(history.mayBeStale('a', span())).toBe(false)
    done('delete', 'b', 'site')
    expect([history.mayBeStale('b', span()), history.heldFor(span())]).toEqual([false, undefined])
    read(undefined)

    expect(history.heldFor(span())).toBeUndefined()
  })

  it('is not promised while a write through the site is on its way or was lost', () => {
    const { history, read, write, done, span, tick } = story()
    done('put', 'a')
    read('a')
    const lost = write('put', 'b', 'site')
    expect(history.heldFor(span())).toBeUndefined()
    lost.settle('lost', tick())

    expect([history.heldFor(span()), history.mayBeStale('a', span())]).toEqual([undefined, true])
  })
})

describe('a history of several sites', () => {
  it('gives a reader the time that the rule allows it to learn of a write elsewhere', () => {
    const { history } = story()
    history.begin({ kind: 'put', digest: 'a', via: 'here', start: 0 }).settle('acknowledged', 1)
    history.begin({ kind: 'put', digest: 'b', via: 'there', start: 2 }).settle('acknowledged', 3)
    const lateness = (write: Write) => (write.via === 'here' ? 0 : 10)
    const mayBe = (value: string, start: number) =>
      history.mayBe(value, { start, end: start + 1 }, { lateness })

    expect([mayBe('a', 12), mayBe('a', 14), mayBe('b', 14)]).toEqual([true, false, true])
    history.begin({ kind: 'put', digest: 'c', via: 'here', start: 15 }).settle('acknowledged', 16)
    expect([mayBe('b', 17), mayBe('c', 17)]).toEqual([false, true])
  })

  it('knows that a lost write has landed or never will, after its time', () => {
    const { history } = story()
    history.begin({ kind: 'put', digest: 'a', via: 'site', start: 0 }).settle('lost', 1, 10)
    history.begin({ kind: 'put', digest: 'b', via: 'site', start: 5 }).settle('acknowledged', 6)
    expect(history.mayBe('a', { start: 7, end: 8 })).toBe(true)
    history.begin({ kind: 'put', digest: 'c', via: 'site', start: 11 }).settle('acknowledged', 12)

    expect(['a', 'b', 'c'].map((value) => history.mayBe(value, { start: 13, end: 14 }))).toEqual([
      false,
      false,
      true,
    ])
  })

  it('says the same of the present after it has forgotten the past', () => {
    const { history, done, span, tick } = story()
    for (const value of ['a', 'b', 'a', 'c']) done('put', value)
    done('delete', 'c')
    done('put', 'b')
    const say = () => ['a', 'b', 'c', undefined].map((value) => history.mayBe(value, span()))
    const before = say()
    history.forget(tick())

    expect([before, say()]).toEqual([
      [false, true, false, false],
      [false, true, false, false],
    ])
    done('delete', 'b')
    history.forget(tick())
    expect(say()).toEqual([false, false, false, true])
  })
})
