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
