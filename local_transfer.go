//go:build !layer

package main

// local_transfer.go brings one reply to AppSync: it cuts the reply into parts, publishes them, and repeats
// them until the invocation is over. local_subscriber.go tells it the channel and the connection, and calls
// it again and again. local_reply.go keeps the reply's data. The data of a stream may still be growing.

import (
	"context"
	"errors"
	"iter"
	"time"
)

const (
	repeatAnswer = 2 * time.Second // until the extension says that it has the reply
	maxFirst     = 7_000           // bytes of part 0 without its data, if it is to hold data too
)

// How fast a stream is published and repaired.
const (
	streamPause = 100 * time.Millisecond // after each publish; leaves most of the publish rate to others
	streamBatch = 40                     // parts that are published together
	repairParts = 20                     // parts that are repeated each time while the stream goes on
	repairBytes = 10 * partData          // their bytes; large parts are fewer
)

// Lambda passes on the first 6 MB of a stream as fast as they come, and the rest at 2 MB/s. What is sent
// faster would pile up in the extension.
// https://docs.aws.amazon.com/lambda/latest/dg/configuration-response-streaming.html#config-rs-bandwidth
const (
	streamBurst = 6 << 20
	streamRate  = 2 << 20
)

// transfer is a reply on its way. It is cut into parts as they go. All of them are published again until the
// invocation is over, because nothing else tells whether they have arrived. The goroutine of the talk alone
// uses it.
type transfer struct {
	s      *subscriber
	rep    *reply
	began  time.Time
	ends   []int64   // where each part's data ends
	whole  bool      // ends has all parts
	next   int       // the part to publish next
	due    time.Time // when all parts are published again
	warned bool      // it has been said that AppSync does not take the reply

	// Of a stream.
	notBefore  time.Time // when the next parts may be published
	repairAt   time.Time // when parts are repeated the next time, if the stream still goes on
	repairable int       // how many parts were out when parts were repeated last
	nextFirst  int       // the next part of those to repeat for the first time
	nextAgain  int       // the next part of those to repeat once more
}

func (s *subscriber) newTransfer(rep *reply) *transfer {
	now := time.Now()
	return &transfer{s: s, rep: rep, began: now, repairAt: now.Add(repeatAnswer)}
}

// published reports whether the whole reply is out.
func (o *transfer) published() bool { return o.whole && o.next == len(o.ends) }

// step publishes what is to be published now. It returns how long there is nothing more to do, as far as the
// transfer itself knows. again says that the extension may have lost what it got.
func (o *transfer) step(ctx context.Context, conn *session, t *talk, again bool) time.Duration {
	now := time.Now()
	if o.published() && !now.Before(o.due) {
		again = true
	}
	if again {
		o.next = 0
	}
	if o.rep.streamed && now.Before(o.notBefore) {
		return o.notBefore.Sub(now)
	}
	wait := o.cut(now)
	if o.next < len(o.ends) {
		return o.publishNext(ctx, conn, t)
	}
	if o.whole {
		return time.Until(o.due)
	}
	if !now.Before(o.repairAt) {
		o.repair(ctx, conn, t)
		o.repairAt = time.Now().Add(repeatAnswer)
	}
	return min(wait, time.Until(o.repairAt))
}

// publishNext publishes the parts that are not out yet: of a stream so many as may go together. It returns
// how long to wait then.
func (o *transfer) publishNext(ctx context.Context, conn *session, t *talk) time.Duration {
	to := len(o.ends)
	if o.rep.streamed {
		to = min(to, o.next+streamBatch)
	}
	now := time.Now()
	publishes, err := o.publish(ctx, conn, t, indexes(o.next, to))
	o.notBefore = now.Add(time.Duration(publishes) * streamPause)
	if err != nil {
		return o.failed(conn, err)
	}
	o.warned = false
	o.next = to
	if o.published() {
		o.due = time.Now().Add(repeatAnswer)
		return repeatAnswer
	}
	return max(0, time.Until(o.notBefore))
}

// failed returns when to try again.
func (o *transfer) failed(conn *session, err error) time.Duration {
	if conn.ctx.Err() == nil && !o.warned {
		o.warned = true
		o.s.api.log.Warn("AppSync did not take an answer; trying again", "error", err)
	}
	if errors.Is(err, errRefused) {
		return repeatAnswer
	}
	return retryPublish
}

// cut cuts what has come of the reply since into parts. It does not cut a stream faster than Lambda would
// pass it on, and returns how long to wait for more.
func (o *transfer) cut(now time.Time) time.Duration {
	l := o.s.local
	l.mu.Lock()
	ended := o.rep.ended
	trailers := len(o.rep.trailers) > 0
	l.mu.Unlock()
	size := o.rep.data.length()
	for !o.whole {
		from := o.begin(len(o.ends))
		to := o.cutFrom(from, size)
		// Trailers may be large and stand in a part without data.
		last := ended && to == size && !(trailers && to > from)
		// A first part without data is one whose headers need all the room.
		first := len(o.ends) == 0 && size > 0
		if to == from && !last && !first {
			return repeatAnswer
		}
		wait := o.tooEarly(to, now)
		if wait > 0 {
			return wait
		}
		o.ends = append(o.ends, to)
		o.whole = last
	}
	return repeatAnswer
}

// cutFrom returns where the data of a part that begins at from ends. size is how much there is.
func (o *transfer) cutFrom(from, size int64) int64 {
	if len(o.ends) == 0 && !o.roomInFirst() {
		return from
	}
	return min(from+partData, size)
}

// tooEarly returns how long a stream's data up to `to` has to wait until Lambda could pass it on.
func (o *transfer) tooEarly(to int64, now time.Time) time.Duration {
	if !o.rep.streamed {
		return 0
	}
	allowed := streamBurst + int64(streamRate*now.Sub(o.began).Seconds())
	seconds := float64(to-allowed) / streamRate
	return time.Duration(seconds * float64(time.Second))
}

// begin returns where part i begins: at the end of the one before.
func (o *transfer) begin(i int) int64 {
	if i == 0 {
		return 0
	}
	return o.ends[i-1]
}

// roomInFirst reports whether part 0 can hold data beside what only part 0 carries.
func (o *transfer) roomInFirst() bool { return escapedLen(o.part("", 0).encode(nil)) <= maxFirst }

// part returns part i for the channel of name, without its data.
func (o *transfer) part(name string, i int) part {
	p := part{
		Type:      o.rep.kind,
		RequestID: name,
		Index:     i,
		Last:      o.whole && i == len(o.ends)-1,
		Encoding:  o.rep.encoding,
		Sender:    o.s.sender,
	}
	if i == 0 {
		p.Headers = o.rep.headers
		p.XRayCause = o.rep.xrayCause
	}
	// A stream that broke has its error in its trailers. Before it ends, its errorType may change here.
	if i == 0 && o.rep.kind == "error" {
		p.ErrorType = o.rep.errorType
	}
	if p.Last {
		p.Trailers = o.rep.trailers
	}
	return p
}

// indexes are the numbers from from up to to, without to.
func indexes(from, to int) iter.Seq[int] {
	return func(yield func(int) bool) {
		for i := from; i < to; i++ {
			if !yield(i) {
				return
			}
		}
	}
}

// publish publishes the parts of those indexes. It returns how many publishes that took.
func (o *transfer) publish(
	ctx context.Context, conn *session, t *talk, indexes iter.Seq[int],
) (publishes int, err error) {
	name, sealer := o.s.address(t)
	parts := 0
	events := func(yield func([]byte) bool) {
		for i := range indexes {
			data, err := o.data(i)
			if err != nil {
				return // the invocation is over
			}
			parts++
			p := o.part(name, i)
			p.sealer = sealer
			if !yield(p.encode(data)) {
				return
			}
		}
	}
	err = o.s.answers.publish(ctx, conn, o.s.api.channel(name), events, awaited)
	publishes = (parts + maxEventsPerPublish - 1) / maxEventsPerPublish
	return publishes, err
}

// data reads the data of part i.
func (o *transfer) data(i int) ([]byte, error) {
	from := o.begin(i)
	data := make([]byte, o.begin(i+1)-from)
	n, err := o.rep.data.ReadAt(data, from)
	if n == len(data) {
		return data, nil // also with io.EOF
	}
	return nil, err
}

// repair repeats parts of a stream that goes on: AppSync may have lost one, and those after it wait for it.
// A part is repeated the first time soon after it was sent; then all of them are, in turn.
func (o *transfer) repair(ctx context.Context, conn *session, t *talk) {
	indexes := func(yield func(int) bool) {
		parts := 0
		bytes := int64(0)
		for parts < min(repairParts, o.repairable) && bytes < repairBytes {
			i := o.nextRepair()
			parts++
			bytes += o.begin(i+1) - o.begin(i)
			if !yield(i) {
				return
			}
		}
	}
	_, err := o.publish(ctx, conn, t, indexes)
	if err != nil {
		o.failed(conn, err)
	}
	o.repairable = o.next
}

// nextRepair returns the part to repeat next.
func (o *transfer) nextRepair() int {
	if o.nextFirst < o.repairable {
		i := o.nextFirst
		o.nextFirst++
		return i
	}
	i := o.nextAgain
	o.nextAgain = (o.nextAgain + 1) % o.repairable
	return i
}
